from setuptools import find_packages, setup

PACKAGE = "gr3_policy_node"

setup(
    name=PACKAGE,
    version="0.1.0",
    packages=find_packages(exclude=["test"]),
    package_data={PACKAGE: ["keymaps/*.yaml", "py.typed"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
    ],
    install_requires=["setuptools"],
    zip_safe=False,
    maintainer="ByteMini stack maintainers",
    maintainer_email="maintainers@bytemini.dev",
    description="The policy server: one Policy interface, served as a ROS node",
    license="Apache-2.0",
    entry_points={
        "console_scripts": ["policy_node = gr3_policy_node.node:main"],
        "bytemini.commands": ["serve = gr3_policy_node.serve:main"],
        "bytemini.benchmarks": ["policy = gr3_policy_node.bench:main"],
    },
)
