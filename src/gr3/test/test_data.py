"""Pictures, words, conversations and batches."""

import json
import shutil

import numpy as np
import pytest
from bytemini_sim.tasks import make_task
from gr3.dataset import IGNORE, DatasetError, Mixture, Shards, Source, augment, corpus, normalisation_of
from gr3.demos import Demonstrator, Recipe
from gr3.shards import PHASES
from gr3.text import ABSENT, BINS, FINE, PAD, WHERE, Text, place
from gr3.views import View

from gr3 import talk


@pytest.fixture(scope="module")
def text():
    return Text.build(corpus([]))


@pytest.fixture(scope="module")
def source(tmp_path_factory, write_shards, layout, text):
    root = write_shards(tmp_path_factory.mktemp("data"), layout)
    demos, stills = Shards(root / "demos"), Shards(root / "stills")
    mixture = Mixture(robot=6, stills=3)
    found = Source(demos, stills, text, layout, normalisation_of(demos, layout), mixture, 28)
    found.hold_out(1)
    return found


def test_a_view_is_the_mean_over_blocks():
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    view = View((4, 6, 12, 18), (4, 6))
    found = view.of(picture)
    for i in range(4):
        for j in range(6):
            block = picture[4 + 3 * i : 7 + 3 * i, 6 + 3 * j : 9 + 3 * j].reshape(-1, 3).astype(float)
            assert np.abs(found[i, j] - block.mean(0)).max() <= 0.5


def test_a_view_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="whole fraction"):
        View((0, 0, 10, 10), (3, 3))
    with pytest.raises(ValueError, match="too few"):
        View((0, 0, 10, 10), (5, 5)).of(np.zeros((8, 10, 3), np.uint8))
    with pytest.raises(ValueError, match="uint8"):
        View((0, 0, 10, 10), (5, 5)).of(np.zeros((10, 10, 3), np.float32))


def test_every_word_of_the_instructions_is_one_token(text):
    from bytemini_sim.catalogue import load_catalogue

    for item in load_catalogue().split("seen")[0]:
        words = f"put the {item.name} into the basket".replace("'", " ' ").replace("-", " - ").split()
        assert len(text.ids(f"put the {item.name} into the basket")) == len(words)
    assert len(text.ids("put the zebra into the basket")) == 5 + len("zebra")  # a word that nobody taught: letters
    assert text.ids("Put THE apple") == text.ids("put the apple")
    assert text.words(text.ids(f"point apple {place(0.5)} {ABSENT}")).split() == [
        "point",
        "apple",
        "<|32|>",
        "<|absent|>",
    ]


def test_every_instruction_of_training_and_evaluation_fits(text):
    """Also names that nobody taught, which go letter by letter."""
    from bytemini_sim.catalogue import load_catalogue
    from bytemini_sim.tasks import make_task
    from gr3.config import tiny

    length = tiny(text.size).text_length
    for setting in ("train", "unseen_instructions"):
        for seed in range(40):
            text.instruction(make_task("pick_place", setting).sample(seed).instruction, length)
    for split in ("seen", "held_out"):
        for item in load_catalogue().split(split)[0]:
            text.instruction(f"put the {item.name} into the basket", length)


def test_the_tokenizer_depends_on_the_words_only(text, tmp_path):
    words = corpus([])
    text.save(tmp_path / "one.json")
    Text.build([*reversed(words), *words]).save(tmp_path / "two.json")
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()


def test_an_instruction_is_padded_or_refused(text):
    ids, mask = text.instruction("put the apple into the bowl", 24)
    slots = len(text.ids(WHERE))
    assert mask.tolist() == [True] * (7 + slots) + [False] * (24 - 7 - slots)
    assert ids[6] == text.end
    assert tuple(ids[7 : 7 + slots]) == text.ids(WHERE)
    assert (ids[7 + slots :] == text.ids(PAD)[0]).all()
    with pytest.raises(ValueError, match="is empty"):
        text.instruction("  ", 24)
    with pytest.raises(ValueError, match="say it shorter"):
        text.instruction("put the apple into the bowl " * 5, 24)


def test_a_tokenizer_survives_its_file_and_others_are_refused(text, tmp_path):
    text.save(tmp_path / "tokenizer.json")
    again = Text.load(tmp_path / "tokenizer.json")
    assert again.ids("put the mug into the tray") == text.ids("put the mug into the tray")
    with pytest.raises(ValueError, match="is missing"):
        Text.load(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(ValueError, match="is no tokenizer"):
        Text.load(tmp_path / "bad.json")
    from tokenizers import Tokenizer, models

    Tokenizer(models.BPE()).save(str(tmp_path / "other.json"))
    with pytest.raises(ValueError, match="was not made for this model"):
        Text.load(tmp_path / "other.json")


def scene():
    things = [
        {"name": name, "category": "fruit", "color": "red", "size": [0.05] * 3, "container": name == "bowl"}
        for name in ("apple", "mug", "bowl")
    ]
    points = np.full((3, 3, 2), np.nan, dtype=np.float32)
    points[0] = [[0.5, 0.25], [1.2, 0.5], [0.1, 0.9]]
    points[2, 0] = [0.0, 1.0]
    places = np.array([[0.55, 0.0, 0.75], [0.5, 0.3, 0.75], [0.4, -0.3, 0.75]], dtype=np.float32)
    return talk.Scene(things, places, points, (("largest object", "apple"),))


def test_conversations_tell_the_truth():
    s = scene()
    assert talk.point(s, "apple").answer == "<|32|> <|16|> <|32|> <|32|>"
    assert talk.point(s, "mug").answer == ABSENT  # out of the picture
    assert talk.point(s, "lemon").answer == ABSENT
    assert talk.point_from_hand(s, "apple", 2).answer == "<|0|> <|63|>"
    assert talk.point_from_hand(s, "apple", 1).answer == ABSENT
    assert talk.plan(s, "apple", "bowl").answer == "<|32|> <|16|> <|6|> <|57|>"
    assert talk.count(s, np.random.default_rng(0)) == talk.Talk("how many fruit", "2")
    assert talk.caption(s, grounded=False).answer == "apple, bowl"
    assert talk.caption(s, grounded=True).answer == "apple <|32|> <|16|> bowl <|6|> <|57|>"
    assert talk.refer(s, np.random.default_rng(0)) == talk.Talk("point largest object", talk.point(s, "apple").answer)
    named = talk.name_at(s, np.random.default_rng(0))
    assert named is not None
    assert named.answer in ("apple", "bowl")


def test_ambiguous_names_are_not_asked_for():
    s = scene()
    twins = talk.Scene([*s.things[:2], {**s.things[0], "name": "apple #2"}], s.places, s.points)
    assert talk.is_ambiguous(twins, "apple")
    assert talk.point(twins, "apple").answer == ABSENT
    painted = talk.Scene([{**s.things[0], "name": "white apple"}, *s.things[1:]], s.places, s.points)
    assert talk.is_ambiguous(painted, "apple")
    assert not talk.is_ambiguous(painted, "white apple")
    talks = talk.dense(painted, ["apple", "mug"], 40, np.random.default_rng(0))
    assert len(talks) == 40
    assert not any(t.question == "point apple" for t in talks)


def test_a_batch_is_a_function_of_seed_step_and_rank(source):
    first, again = source.batch(3, 7, 1), source.batch(3, 7, 1)
    for key in ("text", "state", "actions", "weight", "segments", "labels"):
        np.testing.assert_array_equal(getattr(first, key), getattr(again, key))
    np.testing.assert_array_equal(first.images["head"], again.images["head"])
    assert not np.array_equal(first.images["head"], source.batch(3, 8, 1).images["head"])
    assert not np.array_equal(first.images["head"], source.batch(3, 7, 0).images["head"])


def test_invalid_instructions_name_what_is_absent_and_supervise_the_status_only(source, layout, text):
    seen = 0
    for step in range(60):
        batch = source.batch(0, step)
        for i in range(len(batch.state)):
            if batch.weight[i, 0] == 0:
                seen += 1
                assert (batch.weight[i] > 0).nonzero()[0].tolist() == [layout.status]
                assert (batch.actions[i, :, layout.status] == -1).all()
                words = text.words(batch.text[i][batch.text_mask[i]])
                assert words.startswith("put the")
            else:
                assert (batch.weight[i] > 0).all()
                assert (batch.actions[i, :, layout.status] == 0).all()
    assert 47 < seen < 111  # 22 % of 360, four standard deviations around it


@pytest.mark.parametrize(("phase", "corrected", "share"), [("look", False, 1.0), ("approach", False, 1.0),
                                                           ("clear", False, 0.0), ("close", False, 0.0),
                                                           ("approach", True, 0.0)])  # fmt: skip
def test_only_what_has_not_begun_can_be_impossible(phase, corrected, share, tmp_path, write_shards, layout, text):
    root = write_shards(tmp_path, layout)
    for file in (root / "demos").glob("*/phase.npy"):
        np.save(file, np.full_like(np.load(file), PHASES.index(phase)))
    if corrected:
        shutil.move(root / "demos" / "00000", root / "corrections" / "00000")
    demos = Shards(root / "demos", before=root / "corrections")
    mixture = Mixture(robot=16, stills=0, invalid=1.0, corrected=1.0)
    source = Source(demos, None, text, layout, normalisation_of(demos, layout), mixture, 28)
    source.hold_out(1)
    assert (source.batch(0, 0).weight[:, 0] == 0).mean() == share


def test_so_many_samples_are_of_corrections(tmp_path, write_shards, layout, text):
    root = write_shards(tmp_path, layout)
    shutil.move(root / "demos" / "00000", root / "corrections" / "00000")
    for shard, value in (("corrections/00000", 5.0), ("demos/00001", 0.0)):
        file = root / shard / "state.npy"
        np.save(file, np.full_like(np.load(file), value))
    demos = Shards(root / "demos", before=root / "corrections")
    norm = normalisation_of(demos, layout)
    source = Source(demos, None, text, layout, norm, Mixture(robot=400, stills=0, corrected=0.35), 28)
    source.hold_out(1)
    corrected = source.batch(0, 0).state[:, 0] * norm.state_std[0] + norm.state_mean[0] > 2.5
    assert 0.25 < corrected.mean() < 0.45


def test_some_are_not_told_how_fast_the_robot_is(source, layout):
    states = np.concatenate([source.batch(0, step).state for step in range(60)])
    rates = states[:, layout.state_rates]
    hidden = (rates == 0).all(1)
    assert 0.14 < hidden.mean() < 0.36  # 25 % of 360, four standard deviations and more around it
    assert (rates[~hidden] != 0).all()
    assert (np.delete(states, np.r_[layout.state_rates], axis=1) != 0).all()


def test_held_out_frames_are_never_drawn(source):
    frames, _ = source.held_out(50, np.random.default_rng(0))
    assert frames.min() >= 24
    for step in range(20):
        batch = source.batch(0, step)
        assert len(batch.segments) == 9


def test_labels_ask_only_for_answers(source):
    batch = source.batch(0, 0)
    for segment, label in zip(
        batch.segments.reshape(-1, batch.segments.shape[-1]),
        batch.labels.reshape(-1, batch.labels.shape[-1]),
        strict=True,
    ):
        asked = label != IGNORE
        assert asked.any()
        np.testing.assert_array_equal(label[asked], segment[asked])
        assert not asked[0]


def test_slots_say_where_the_things_are_that_the_instruction_speaks_of(text):
    s = scene()
    labels = text.located(talk.whereabouts(s, s.find("apple"), s.find("bowl")))
    assert len(labels) == len(text.ids(WHERE))
    blur = text.blur(1.0)
    bins = [text.ids(f"<|{i}|>")[0] for i in range(BINS)]
    middles = (np.arange(BINS) + 0.5) / BINS
    means = blur[labels][:, bins] @ middles
    inside = slice(0, 7)  # at the edges the neighbours are missing
    (x0, x1), (y0, y1) = talk.WORKSPACE
    z0, z1 = talk.HEIGHTS
    wanted = [0.5, 0.25, (0.55 - x0) / (x1 - x0), -y0 / (y1 - y0), (0.75 - z0) / (z1 - z0), 0.1, 0.9]
    np.testing.assert_allclose(means[inside], wanted, atol=0.6 / FINE / BINS)
    absent = text.ids(ABSENT)[0]
    assert labels[7:9].tolist() == [absent, absent], "not in the left wrist's picture"
    assert (labels[9:] != absent).all()
    nowhere = text.located(talk.whereabouts(s, s.find("lemon"), s.find("bowl")))
    assert (nowhere[:5] == absent).all()
    np.testing.assert_array_equal(nowhere[5:7], labels[5:7])


def test_a_batch_asks_its_slots_and_nothing_else_of_an_instruction(source, text):
    batch = source.batch(0, 0)
    asked = batch.text_labels != IGNORE
    for row, mask, slots in zip(batch.text, batch.text_mask, asked, strict=True):
        end = int(mask.sum())
        if slots.any():
            assert slots.nonzero()[0].tolist() == list(range(end - len(text.ids(WHERE)), end))
        assert tuple(row[end - len(text.ids(WHERE)) : end]) == text.ids(WHERE)
    assert asked.any(1).mean() > 0.5


def test_normalised_actions_have_unit_size(source, layout):
    norm = normalisation_of(source.demos, layout)
    rows = (source.demos.column("actions") - norm.action_mean) / norm.action_std
    np.testing.assert_allclose(rows[..., :-1].std(0), 1.0, atol=1e-3)
    assert (norm.action_std[:, layout.status] == 1).all()
    from gr3.dataset import Normalisation

    again = Normalisation.from_dict(json.loads(json.dumps(norm.to_dict())))
    np.testing.assert_array_equal(again.action_std, norm.action_std)


def test_augmentation_changes_light_not_shape():
    pictures = np.full((8, 6, 6, 3), 128, dtype=np.uint8)
    found = augment(pictures, np.random.default_rng(0))
    assert found.shape == pictures.shape
    assert found.dtype == np.uint8
    assert len({int(x.mean()) for x in found}) > 3


def test_wrong_data_is_refused(tmp_path, write_shards, layout):
    with pytest.raises(DatasetError, match="holds no shards"):
        Shards(tmp_path)
    root = write_shards(tmp_path / "data", layout, shards=2)
    path = root / "demos" / "00001" / "meta.json"
    meta = json.loads(path.read_text())
    path.write_text(json.dumps({**meta, "views": {"head": meta["views"]["head"], "belly": meta["views"]["head"]}}))
    with pytest.raises(DatasetError, match="has cameras head, belly"):
        Shards(root / "demos")
    path.write_text(json.dumps({**meta, "format": "gr3-shard/9"}))
    with pytest.raises(DatasetError, match="gr3-shard/9"):
        Shards(root / "demos")
    changed = {name: {**view, "crop": [0, 0, 1, 1]} for name, view in meta["views"].items()}
    path.write_text(json.dumps({**meta, "views": changed}))
    with pytest.raises(DatasetError, match="other views"):
        Shards(root / "demos")


def test_corrections_come_before_the_demonstrations_that_are_held_out(tmp_path, write_shards, layout):
    root = write_shards(tmp_path / "data", layout)
    alone = Shards(root / "demos", before=root / "corrections")
    shutil.copytree(root / "demos" / "00000", root / "corrections" / "00000")
    both = Shards(root / "demos", before=root / "corrections")
    assert both.shards == alone.shards + 1
    more = len(both) - len(alone)
    frames = np.arange(len(alone))
    np.testing.assert_array_equal(both.take("state", frames + more), alone.take("state", frames))
    assert both.episodes[both.episode_index[-1]] == alone.episodes[alone.episode_index[-1]]


def test_the_policy_and_the_expert_take_turns(checkpoint, monkeypatch):
    demonstrator = Demonstrator(Recipe(), checkpoint[0])
    turns = []
    monkeypatch.setattr(demonstrator.policy, "reset", lambda: turns.append(True))
    frames, about = demonstrator.correction(7, 0)
    assert len(turns) > 1
    assert about["success"]
    assert about["seed"] >= 1_000_000, "no scene of a demonstration"
    assert len(about["begun_by"]) == 64, "digest of the checkpoint"
    phases = [PHASES[int(frame["phase"])] for frame in frames]
    assert phases[0] in ("clear", "approach"), "where the policy has left the arms at home, the view comes first"
    assert phases[-1] == "done"
    home = demonstrator.codec.state(demonstrator.world(make_task("pick_place", "train").sample(about["seed"])).state())
    assert np.abs(frames[0]["state"] - home).max() > 0.01, "the policy has moved the robot before"
