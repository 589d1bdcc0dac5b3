from setuptools import find_packages, setup

PACKAGE = "bytemini_gazebo"

setup(
    name=PACKAGE,
    version="0.1.0",
    packages=find_packages(exclude=["test"]),
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
        (f"share/{PACKAGE}/config", ["config/bridge.yaml", "config/controllers.yaml"]),
    ],
    install_requires=["setuptools"],
    package_data={PACKAGE: ["py.typed"]},
    zip_safe=False,
    maintainer="ByteMini stack maintainers",
    maintainer_email="maintainers@bytemini.dev",
    description="Gazebo Harmonic as the second simulator: worlds from the same scenes, the robot's driver, scoring",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            "gazebo_server = bytemini_gazebo.server:main",
            "gazebo_driver = bytemini_gazebo.node:main",
        ],
    },
)
