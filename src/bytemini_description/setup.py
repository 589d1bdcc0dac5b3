from pathlib import Path

from setuptools import find_packages, setup

PACKAGE = "bytemini_description"


def files(folder, pattern):
    return (f"share/{PACKAGE}/{folder}", sorted(str(path) for path in Path(folder).glob(pattern)))


setup(
    name=PACKAGE,
    version="0.1.0",
    packages=find_packages(exclude=["test"]),
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
        files("urdf", "*.xacro"),
        files("config", "*.yaml"),
    ],
    install_requires=["setuptools"],
    zip_safe=False,
    maintainer="ByteMini stack maintainers",
    maintainer_email="maintainers@bytemini.dev",
    description="ByteMini as xacro with limits, gains and kinematics, and the transmission of its wrist",
    license="Apache-2.0",
    entry_points={"console_scripts": ["state_publisher = bytemini_description.state_publisher:main"]},
)
