from setuptools import find_packages, setup

PACKAGE = "bytemini_core"

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
    description="Plain types that the cores exchange, and their one conversion to and from messages",
    license="Apache-2.0",
    entry_points={
        "console_scripts": ["bytemini = bytemini_core.cli:main"],
        "bytemini.commands": [
            "bench = bytemini_core.commands:bench",
            "lint = bytemini_core.commands:lint",
            "setup = bytemini_core.commands:setup",
            "test = bytemini_core.commands:test",
        ],
    },
)
