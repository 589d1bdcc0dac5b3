from setuptools import find_packages, setup

PACKAGE = "bytemini_cameras"

setup(
    name=PACKAGE,
    version="0.1.0",
    packages=find_packages(exclude=["test"]),
    package_data={PACKAGE: ["py.typed"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
    ],
    install_requires=["setuptools"],
    zip_safe=False,
    maintainer="ByteMini stack maintainers",
    maintainer_email="maintainers@bytemini.dev",
    description="The RealSense cameras on head and wrists",
    license="Apache-2.0",
    entry_points={
        "console_scripts": ["cameras_node = bytemini_cameras.node:main"],
        "bytemini.benchmarks": ["cameras = bytemini_cameras.bench:main"],
    },
)
