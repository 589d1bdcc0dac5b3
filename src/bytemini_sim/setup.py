from setuptools import find_packages, setup

PACKAGE = "bytemini_sim"

setup(
    name=PACKAGE,
    version="0.1.0",
    packages=find_packages(exclude=["test"]),
    package_data={PACKAGE: ["data/*.yaml", "evaluation/*.json", "py.typed"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
    ],
    install_requires=["setuptools"],
    zip_safe=False,
    maintainer="ByteMini stack maintainers",
    maintainer_email="maintainers@bytemini.dev",
    description="MuJoCo world of the ByteMini robot: physics, cameras, scenes, tasks, scoring, scripted expert",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            "fault_cameras = bytemini_sim.faults.cameras:main",
            "sim_node = bytemini_sim.node:main",
        ],
        "bytemini.policies": ["expert = bytemini_sim.task_expert:make_expert"],
        "bytemini.recordings": ["rollout = bytemini_sim.results.recording:read"],
        "bytemini.commands": [
            "rollout = bytemini_sim.rollout:main",
            "eval = bytemini_sim.evaluation.command:main",
            "gate = bytemini_sim.evaluation.gate:main",
        ],
        "bytemini.benchmarks": [
            "rollout = bytemini_sim.bench_rollout:main",
            "latency = bytemini_sim.bench_latency:main",
            "eval = bytemini_sim.bench_eval:main",
            "faults = bytemini_sim.bench_faults:main",
            "estop = bytemini_sim.bench_estop:main",
        ],
    },
)
