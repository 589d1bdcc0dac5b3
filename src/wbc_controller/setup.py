from setuptools import find_packages, setup

PACKAGE = "wbc_controller"

setup(
    name=PACKAGE,
    version="0.1.0",
    packages=find_packages(exclude=["test"]),
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
    ],
    install_requires=["setuptools"],
    package_data={PACKAGE: ["*.c"]},
    zip_safe=False,
    maintainer="ByteMini stack maintainers",
    maintainer_email="maintainers@bytemini.dev",
    description="Whole-body compliance controller: the last gate, and the only writer of joint commands",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            "estop_button_node = wbc_controller.button_node:main",
            "wbc_node = wbc_controller.node:main",
        ],
        "bytemini.benchmarks": [
            "wbc = wbc_controller.benchmarks.wbc:main",
            "wbc-contact = wbc_controller.benchmarks.contact:main",
            "wbc-fuzz = wbc_controller.benchmarks.fuzz:main",
            "wbc-node = wbc_controller.benchmarks.node:main",
            "wbc-pictures = wbc_controller.benchmarks.pictures:main",
        ],
    },
)
