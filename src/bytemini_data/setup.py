from setuptools import find_packages, setup

PACKAGE = "bytemini_data"

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
    description="Datasets of the ByteMini robot: format, recorder, collection scheduler, quality checks",
    license="Apache-2.0",
    entry_points={
        "console_scripts": ["recorder_node = bytemini_data.recorder.node:main"],
        "bytemini.commands": [
            "record = bytemini_data.record:main",
            "data = bytemini_data.data:main",
        ],
        "bytemini.recordings": ["dataset = bytemini_data.replay:read"],
        "bytemini.benchmarks": ["recorder = bytemini_data.bench_recorder:main"],
    },
)
