from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from bytemini_sim.bimanual import TRAY
from bytemini_sim.catalogue import MAX_GRASP_WIDTH, default_path, load_catalogue


def test_the_catalogue_offers_enough_and_keeps_training_and_evaluation_apart():
    catalogue = load_catalogue()
    seen, seen_containers = catalogue.split("seen")
    held_out, held_out_containers = catalogue.split("held_out")
    assert len(seen) == 54, "GR-3 report, section 5.1"
    assert len(seen_containers) >= 1
    assert len(held_out) == 45
    assert held_out_containers
    names = Counter(item.name for item in catalogue.objects + catalogue.containers)
    assert max(names.values()) == 1
    assert not {i.name for i in seen} & {i.name for i in held_out}


def test_every_object_fits_between_the_fingers_and_stands_on_its_underside():
    for item in load_catalogue().objects:
        assert min(item.size[:2]) <= MAX_GRASP_WIDTH or item.name == TRAY, "which two hands take by its handles"
        solid = [part for part in item.parts if part.solid]
        low = np.min([np.subtract(p.position, p.half_extents()) for p in solid], axis=0)
        high = np.max([np.add(p.position, p.half_extents()) for p in solid], axis=0)
        np.testing.assert_allclose(low, -np.array(item.size) / 2, atol=1e-9)
        np.testing.assert_allclose(high, np.array(item.size) / 2, atol=1e-9)


def test_containers_hold_every_object():
    catalogue = load_catalogue()
    for container in catalogue.containers:
        assert container.mass >= 1.5
        for item in (item for item in catalogue.objects if item.name != TRAY):
            assert min(container.inner[:2]) > min(item.size[:2]) + 0.05


def test_asking_for_what_does_not_exist_lists_what_does():
    with pytest.raises(ValueError, match=r"no object is called 'unicorn'; there are .*apple"):
        load_catalogue().object("unicorn")
    with pytest.raises(ValueError, match=r"no container is called 'apple'; there are .*basket"):
        load_catalogue().container("apple")


APPLE = "{name: apple, category: fruit, color: red, split: seen, mass: 0.1, friction: 0.6, parts: [%s]}"
BALL = "{shape: sphere, radius: 0.03}"


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        ("[1]", "without a name"),
        (f"[{APPLE % BALL}, {APPLE % BALL}]", "more than once"),
        (f"[{APPLE % '{shape: torus, radius: 1}'}]", "'torus'.*expected one of sphere"),
        (f"[{APPLE % '{shape: sphere, height: 1}'}]", "has or lacks"),
        (f"[{APPLE % '{shape: sphere, radius: 0.05}'}]", "0.100 m wide"),
        (f"[{APPLE % '{shape: sphere, radius: 0.03, solid: false}'}]", "no solid part"),
        (f"[{(APPLE % BALL).replace('split: seen', 'split: mine')}]", "expected seen, held_out, suite"),
        (f"[{(APPLE % BALL).replace('color: red', 'color: octarine')}]", "octarine"),
        (f"[{(APPLE % BALL).replace('mass: 0.1', 'mass: 90')}]", "mass 90"),
        (f"[{APPLE % '{shape: sphere, radius: 0.03, pattern: {kind: plaid, color: red}}'}]", "expected a kind"),
        (f"[{APPLE % BALL}]\nfacts: {{round thing: [pear]}}", "'round thing' is said of"),
    ],
)
def test_a_malformed_catalogue_is_refused_with_one_line(tmp_path: Path, objects: str, message: str):
    file = tmp_path / "catalogue.yaml"
    file.write_text(f"colors: {{red: [1, 0, 0]}}\nobjects: {objects}\ncontainers: []\n")
    with pytest.raises(ValueError, match=message) as error:
        load_catalogue(file)
    assert "\n" not in str(error.value)


def test_a_file_that_is_no_catalogue_is_refused(tmp_path: Path):
    file = tmp_path / "catalogue.yaml"
    file.write_text("just text")
    with pytest.raises(ValueError, match="must hold the keys"):
        load_catalogue(file)
    with pytest.raises(ValueError, match="not a readable catalogue"):
        load_catalogue(default_path().parent / "missing.yaml")
