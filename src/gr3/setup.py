from setuptools import find_packages, setup

PACKAGE = "gr3"

setup(
    name=PACKAGE,
    version="0.1.0",
    packages=find_packages(exclude=["test"]),
    package_data={PACKAGE: ["checkpoints/*/*", "py.typed"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
    ],
    install_requires=["setuptools"],
    zip_safe=False,
    maintainer="ByteMini stack maintainers",
    maintainer_email="maintainers@bytemini.dev",
    description="GR-3: vision-language-action model, training data, training, ONNX export and deployment",
    license="Apache-2.0",
    entry_points={
        "bytemini.commands": [
            "train = gr3.train:main",
            "export = gr3.export:main",
        ],
        "bytemini.benchmarks": ["train = gr3.bench_train:main"],
        "bytemini.policies": ["gr3-tiny = gr3.bundled:make_tiny"],
    },
)
