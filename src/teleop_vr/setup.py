from pathlib import Path

from setuptools import find_packages, setup

PACKAGE = "teleop_vr"


def pages() -> list[tuple[str, list[str]]]:
    """The files of the page, folder by folder, below share/."""
    folders = sorted({path.parent for path in Path("web").rglob("*") if path.is_file()})
    return [
        (f"share/{PACKAGE}/{folder}", sorted(str(path) for path in folder.iterdir() if path.is_file()))
        for folder in folders
    ]


setup(
    name=PACKAGE,
    version="0.1.0",
    packages=find_packages(exclude=["test"]),
    package_data={PACKAGE: ["py.typed"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
        *pages(),
    ],
    install_requires=["setuptools"],
    zip_safe=False,
    maintainer="ByteMini stack maintainers",
    maintainer_email="maintainers@bytemini.dev",
    description="Teleoperation of the whole robot from a headset's browser",
    license="Apache-2.0",
    entry_points={
        "console_scripts": ["teleop_node = teleop_vr.node:main"],
        "bytemini.commands": ["teleop = teleop_vr.command:main"],
        "bytemini.benchmarks": ["teleop = teleop_vr.bench:main"],
    },
)
