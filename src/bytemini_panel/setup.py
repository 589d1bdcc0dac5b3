from pathlib import Path

from setuptools import find_packages, setup

PACKAGE = "bytemini_panel"

setup(
    name=PACKAGE,
    version="0.1.0",
    packages=find_packages(exclude=["test"]),
    package_data={PACKAGE: ["py.typed"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
        (f"share/{PACKAGE}/web", sorted(str(path) for path in Path("web").iterdir())),
    ],
    install_requires=["setuptools"],
    zip_safe=False,
    maintainer="ByteMini stack maintainers",
    maintainer_email="maintainers@bytemini.dev",
    description="The operator's view: a local web page, the health of all nodes, and the flight recorder",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            "panel_node = bytemini_panel.node:main",
            "flight_recorder_node = bytemini_panel.recorder_node:main",
        ],
        "bytemini.commands": ["panel = bytemini_panel.command:main"],
    },
)
