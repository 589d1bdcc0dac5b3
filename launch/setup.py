from setuptools import setup

PACKAGE = "bytemini_bringup"

setup(
    name=PACKAGE,
    version="0.1.0",
    packages=[PACKAGE],
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
        (f"share/{PACKAGE}/launch", ["bytemini.launch.py", "teleop.launch.py"]),
        (
            f"share/{PACKAGE}/config",
            [
                "config/bytemini.rviz",
                "config/bytemini.foxglove.json",
                "config/v1.yaml",
                "config/v2.yaml",
                "config/commands.xml",
                "config/large_images.xml",
            ],
        ),
    ],
    install_requires=["setuptools"],
    zip_safe=True,
    maintainer="ByteMini stack maintainers",
    maintainer_email="maintainers@bytemini.dev",
    description="The one description of the running stack, and the two ways to start it",
    license="Apache-2.0",
    entry_points={
        "console_scripts": ["wait_ready = bytemini_bringup.ready:main"],
        "bytemini.commands": ["up = bytemini_bringup.cli:up"],
    },
)
