from setuptools import find_packages, setup

PACKAGE = "trajectory_optimizer"

setup(
    name=PACKAGE,
    version="0.1.0",
    packages=find_packages(exclude=["test"]),
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
    ],
    install_requires=["setuptools"],
    zip_safe=True,
    maintainer="ByteMini stack maintainers",
    maintainer_email="maintainers@bytemini.dev",
    description="Turns action chunks into one smooth motion within limits, seamless across chunks",
    license="Apache-2.0",
    entry_points={
        "console_scripts": ["trajectory_node = trajectory_optimizer.node:main"],
        "bytemini.benchmarks": ["trajectory = trajectory_optimizer.benchmarks.trajectory:main"],
    },
)
