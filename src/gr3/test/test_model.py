"""The model's masks, caches, losses and samples."""

import dataclasses

import pytest
import torch
from gr3.config import ModelConfig, TextConfig, tiny, toy
from gr3.dit import time_features
from gr3.model import GR3, IGNORE, Prefix, next_token_loss


def naive_velocity(model, prefix, state, noisy, time):
    """The DiT written anew: one token at a time, each with its own loop over what it may see."""
    dit, config = model.dit, model.config
    text = config.text
    width, heads, kv = text.hidden // text.heads, text.heads, text.kv_heads
    out = torch.zeros_like(noisy)
    for b in range(len(noisy)):
        tokens = [dit.state(state[b])] + [dit.action(row) for row in noisy[b]]
        times = [torch.tensor(1.0), *time[b]]
        t = [dit.time(time_features(x, config.action.hidden)) for x in times]
        for block, (mk, mv) in zip(dit.blocks, prefix.cache, strict=True):
            mods = [block.modulation(torch.nn.functional.silu(x)).chunk(6) for x in t]

            def turned(x, i):
                cos, sin = model.action_cos[i], model.action_sin[i]
                return x * cos + torch.cat((-x[width // 2 :], x[: width // 2])) * sin

            def normed(x):
                return (x - x.mean()) / torch.sqrt(x.var(unbiased=False) + 1e-5)

            ys = [normed(x) * (1 + m[1]) + m[0] for x, m in zip(tokens, mods, strict=True)]
            keys = [[turned(block.k(y)[h * width : (h + 1) * width], i) for h in range(kv)] for i, y in enumerate(ys)]
            values = [[block.v(y)[h * width : (h + 1) * width] for h in range(kv)] for y in ys]
            new = []
            for i, y in enumerate(ys):
                parts = []
                for h in range(heads):
                    q = turned(block.q(y)[h * width : (h + 1) * width], i)
                    g = h // (heads // kv)
                    seen = [j for j in range(mk.shape[2]) if prefix.seen[b, j]]
                    ks = [mk[b, g, j] for j in seen] + [keys[j][g] for j in range(i + 1)]
                    vs = [mv[b, g, j] for j in seen] + [values[j][g] for j in range(i + 1)]
                    weights = torch.softmax(torch.stack([q @ k for k in ks]) / width**0.5, 0)
                    parts.append(sum(w * v for w, v in zip(weights, vs, strict=True)))
                x = tokens[i] + mods[i][2] * block.o(torch.cat(parts))
                z = normed(x) * (1 + mods[i][4]) + mods[i][3]
                fed = block.down(torch.nn.functional.gelu(block.up(z), approximate="tanh"))
                new.append(x + mods[i][5] * fed)
            tokens = new
        for i in range(1, len(tokens)):
            shift, scale = dit.last(torch.nn.functional.silu(t[i])).chunk(2)
            x = tokens[i]
            out[b, i - 1] = dit.out((x - x.mean()) / torch.sqrt(x.var(unbiased=False) + 1e-5) * (1 + scale) + shift)
    return out


@pytest.mark.parametrize("norm", [True, False])
def test_velocity_equals_a_naive_reference(norm, inputs, awake):
    torch.manual_seed(2)
    model = awake(GR3(toy(norm=norm)))
    (images, text, mask), (state, _, noisy) = inputs(model.config)
    time = torch.rand(noisy.shape[:2])
    with torch.no_grad():
        prefix = model.prefix(images, text, mask)
        found = model.velocity(prefix, state, noisy, time)
        assert found.shape == noisy.shape
        torch.testing.assert_close(found, naive_velocity(model, prefix, state, noisy, time), atol=1e-5, rtol=1e-4)


def test_a_later_action_token_never_changes_an_earlier_velocity(model, inputs):
    (images, text, mask), (state, _, noisy) = inputs(model.config)
    time = torch.rand(noisy.shape[:2])
    with torch.no_grad():
        prefix = model.prefix(images, text, mask)
        before = model.velocity(prefix, state, noisy, time)
        for row in range(noisy.shape[1]):
            changed, later = noisy.clone(), time.clone()
            changed[:, row] += 1.0
            later[:, row] = 0.5 * later[:, row]
            after = model.velocity(prefix, state, changed, later)
            assert torch.equal(before[:, :row], after[:, :row])
            assert not torch.equal(before[:, row], after[:, row])


def test_only_the_latter_half_of_the_vlm_is_read(model, inputs):
    """Of the last layer keys and values matter, its output does not; of the first half nothing is attended to."""
    (images, text, mask), (state, _, noisy) = inputs(model.config)
    prefix = model.prefix(images, text, mask)
    layers = model.config.text.layers
    assert len(prefix.cache) == layers // 2 == len(model.dit.blocks)
    for k, v in prefix.cache:
        k.retain_grad()
        v.retain_grad()
    model.velocity(prefix, state, noisy, torch.rand(noisy.shape[:2])).sum().backward()
    assert all(k.grad.any() and v.grad.any() for k, v in prefix.cache)
    last = model.backbone.qwen.language_model.layers[-1]
    assert last.self_attn.k_proj.weight.grad.any()
    assert last.self_attn.v_proj.weight.grad.any()
    for unread in (last.self_attn.q_proj, last.self_attn.o_proj, last.mlp.down_proj):
        assert unread.weight.grad is None or not unread.weight.grad.any()
    # The i-th block reads the i-th layer of the latter half and no other.
    for i in range(len(prefix.cache)):
        with torch.no_grad():
            base = model.velocity(prefix, state, noisy, torch.zeros(noisy.shape[:2]))
            cache = [(k + 1, v) if j == i else (k, v) for j, (k, v) in enumerate([(k, v) for k, v in prefix.cache])]
            seen = []
            hook = model.dit.blocks[i].register_forward_hook(lambda _m, _i, out, seen=seen: seen.append(out))
            changed = model.velocity(Prefix(cache, prefix.seen), state, noisy, torch.zeros(noisy.shape[:2]))
            hook.remove()
        assert not torch.equal(base, changed)
    model.zero_grad()


def test_padding_and_what_it_holds_change_nothing(model, inputs):
    (images, text, _), (state, _, noisy) = inputs(model.config)
    mask = (torch.arange(model.config.text_length) < 3).expand(2, -1)
    other = text.clone()
    other[:, 3:] = (other[:, 3:] + 7) % model.config.text.vocabulary
    with torch.no_grad():
        first = model.sample(model.prefix(images, text, mask), state, noisy)
        second = model.sample(model.prefix(images, other, mask), state, noisy)
    torch.testing.assert_close(first, second, atol=1e-6, rtol=0)


def test_cached_and_uncached_prefix_agree(model, inputs):
    """Sampling with the cache computed once equals computing it anew at every step."""
    (images, text, mask), (state, _, noise) = inputs(model.config)
    with torch.no_grad():
        cached = model.sample(model.prefix(images, text, mask), state, noise)
        x = noise
        for i in range(5):
            prefix = model.prefix(images, text, mask)
            x = x + 0.2 * model.velocity(prefix, state, x, torch.full(x.shape[:2], 0.2 * i))
    torch.testing.assert_close(cached, x, atol=1e-5, rtol=1e-5)


def test_conversations_change_neither_the_prefix_nor_one_another(model, inputs):
    config = model.config
    (images, text, mask), _ = inputs(config)
    segments = torch.randint(0, config.text.vocabulary, (2, 3, 4))
    with torch.no_grad():
        alone = model.prefix(images, text, mask)
        prefix, said = model.prefix_and_answers(images, text, mask, segments)
        logits = said.answers
        assert logits.shape == (2, 3, 4, config.text.vocabulary)
        for (k, v), (k2, v2) in zip(alone.cache, prefix.cache, strict=True):
            torch.testing.assert_close(k, k2, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(v, v2, atol=1e-5, rtol=1e-5)
        for i in range(3):
            _, single = model.prefix_and_answers(images, text, mask, segments[:, i : i + 1])
            torch.testing.assert_close(single.answers[:, 0], logits[:, i], atol=1e-5, rtol=1e-5)


def test_committed_rows_are_kept_and_steer_the_rest(model, inputs):
    (images, text, mask), (state, actions, noise) = inputs(model.config)
    given = (torch.arange(model.config.action.horizon) < 2).expand(2, -1)
    with torch.no_grad():
        prefix = model.prefix(images, text, mask)
        free = model.sample(prefix, state, noise)
        bound = model.sample(prefix, state, noise, actions, given)
    assert torch.equal(bound[:, :2], actions[:, :2])
    assert not torch.allclose(bound[:, 2:], free[:, 2:])


def flow(inputs, model, actions, weight, seed=0, committed=0):
    (images, text, mask), (state, _, _) = inputs(model.config, batch=len(actions))
    g = torch.Generator().manual_seed(seed)
    noise = torch.randn((2, *actions.shape), generator=g)
    time = torch.rand((2, len(actions)), generator=g)
    given = torch.full((2, len(actions)), committed)
    return model.flow_loss(model.prefix(images, text, mask), state, actions, weight, noise, time, given)


def test_flow_loss_is_that_of_the_report(model, inputs):
    """Equation 2, term by term, in a plain loop."""
    (images, text, mask), (state, actions, _) = inputs(model.config)
    g = torch.Generator().manual_seed(5)
    noise, time = torch.randn((3, *actions.shape), generator=g), torch.rand((3, 2), generator=g)
    weight = torch.ones(2, model.config.columns)
    with torch.no_grad():
        prefix = model.prefix(images, text, mask)
        found = model.flow_loss(prefix, state, actions, weight, noise, time, torch.zeros(3, 2, dtype=torch.long))
        terms = []
        for r in range(3):
            tau = time[r][:, None, None]
            v = model.velocity(prefix, state, (1 - tau) * noise[r] + tau * actions, time[r][:, None].expand(-1, 4))
            terms.append(((v - (actions - noise[r])) ** 2).mean())
    torch.testing.assert_close(found, torch.stack(terms).mean())


def test_masked_columns_get_no_gradient(model, inputs):
    actions = inputs(model.config)[1][1].clone().requires_grad_()
    weight = torch.ones(2, model.config.columns)
    weight[:, 3] = 0.0
    model.zero_grad()
    flow(inputs, model, actions, weight).backward()
    assert not model.dit.out.weight.grad[3].any()
    assert not model.dit.out.bias.grad[3].any()
    assert model.dit.out.weight.grad[4].any()


def test_an_invalid_sample_supervises_the_status_only(model, layout, inputs):
    actions = inputs(model.config)[1][1]
    weight = torch.from_numpy(layout.supervised("invalid").astype("float32")).expand(2, -1)
    model.zero_grad()
    flow(inputs, model, actions, weight).backward()
    rows = model.dit.out.weight.grad.abs().sum(1) > 0
    assert rows.nonzero().flatten().tolist() == [layout.status]


def test_what_is_not_supervised_may_be_anything(model, inputs):
    actions = inputs(model.config)[1][1]
    weight = torch.zeros(2, model.config.columns)
    assert float(flow(inputs, model, actions, weight).detach()) == 0.0


def test_committed_rows_have_no_loss(model, inputs):
    actions = inputs(model.config)[1][1]
    weight = torch.ones(2, model.config.columns)
    base = flow(inputs, model, actions, weight, committed=2)
    (_images, _text, _mask), (_state, _, _) = inputs(model.config)
    seen = []
    hook = model.dit.register_forward_hook(lambda _m, args, _o: seen.append(args))
    flow(inputs, model, actions, weight, committed=2)
    hook.remove()
    noisy, time = seen[0][0], seen[0][1]
    assert torch.equal(time[..., :2], torch.ones_like(time[..., :2]))
    for draw in range(noisy.shape[1]):
        torch.testing.assert_close(noisy[:, draw, :2], actions[:, :2])
    assert float(base.detach()) > 0


def test_next_token_loss_is_cross_entropy_of_the_next_token():
    logits = torch.randn(1, 2, 3, 5)
    labels = torch.tensor([[[IGNORE, 2, 4], [IGNORE, IGNORE, 1]]])
    wanted = (
        -(logits[0, 0, 0].log_softmax(0)[2] + logits[0, 0, 1].log_softmax(0)[4] + logits[0, 1, 1].log_softmax(0)[1]) / 3
    )
    torch.testing.assert_close(next_token_loss(logits, labels), wanted)


@pytest.mark.slow
def test_one_batch_is_learned_by_heart(inputs):
    """Sampled actions come to be those of the batch, whichever the noise."""
    torch.manual_seed(0)
    model = GR3(dataclasses.replace(toy(), columns=6, state=5))
    (images, text, mask), (state, actions, _) = inputs(model.config, batch=4)
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    g = torch.Generator().manual_seed(0)
    weight = torch.ones(4, 6)
    for step in range(500):
        for group in optimizer.param_groups:
            group["lr"] = 4e-3 * (1 - step / 500)
        noise, time = torch.randn((8, *actions.shape), generator=g), torch.rand((8, 4), generator=g)
        prefix = model.prefix(images, text, mask)
        loss = model.flow_loss(prefix, state, actions, weight, noise, time, torch.zeros(8, 4, dtype=torch.long))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        prefix = model.prefix(images, text, mask)
        for seed in range(3):
            noise = torch.randn(actions.shape, generator=torch.Generator().manual_seed(seed))
            error = (model.sample(prefix, state, noise) - actions).abs()
            assert float(error.mean()) < 0.1
    assert float(loss.detach()) < 0.1  # 2 for a model that knows nothing


@pytest.mark.slow
def test_a_distribution_with_two_modes_is_learned(inputs):
    """Both modes come, in their shares, and nothing in between."""
    torch.manual_seed(0)
    model = GR3(dataclasses.replace(toy(), columns=2, state=2))
    dit = model.dit
    k = model.config.action.horizon
    (images, text, mask), _ = inputs(model.config, batch=1)
    with torch.no_grad():
        one = model.prefix(images, text, mask)
    optimizer = torch.optim.Adam(dit.parameters(), lr=4e-3)
    g = torch.Generator().manual_seed(0)
    modes = torch.tensor([[1.5, 0.0], [-1.0, 1.0]])

    def draw(n):
        which = (torch.rand(n, generator=g) < 0.25).long()
        return (modes[which] + 0.05 * torch.randn(n, 2, generator=g))[:, None].expand(n, k, 2)

    n, steps = 128, 500
    prefix = one.repeat(n)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 4e-3 * (1 - step / steps)
        actions = draw(n)
        noise, time = torch.randn((1, n, k, 2), generator=g), torch.rand((1, n), generator=g)
        zero = torch.zeros(1, n, dtype=torch.long)
        loss = model.flow_loss(prefix, torch.zeros(n, 2), actions, torch.ones(n, 2), noise, time, zero)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        many = one.repeat(400)
        x = model.sample(many, torch.zeros(400, 2), torch.randn((400, k, 2), generator=g), steps=20)[:, 0]
    distance = torch.cdist(x, modes)
    assert float((distance.min(1).values < 0.45).float().mean()) > 0.9
    share = float((distance.argmin(1) == 1).float().mean())
    assert 0.13 < share < 0.37


def test_the_full_configuration_has_about_four_billion_parameters():
    with torch.device("meta"):
        model = GR3(ModelConfig())
    total = sum(p.numel() for p in model.parameters())
    assert 3.9e9 < total < 4.3e9
    assert len(model.dit.blocks) * 2 == model.config.text.layers == 36


def test_tiny_fits_into_forty_mebibytes():
    with torch.device("meta"):
        model = GR3(tiny(600))
    assert 4 * sum(p.numel() for p in model.parameters()) < 30 * 2**20


@pytest.mark.parametrize(
    ("change", "words"),
    [({"text": TextConfig(layers=3)}, "even number"), ({"text": TextConfig(mrope=(1, 2, 3))}, "mrope sections")],
)
def test_sizes_that_do_not_go_together_are_refused(change, words):
    with pytest.raises(ValueError, match=words):
        ModelConfig(**change)


def test_configuration_survives_json():
    import json

    config = tiny(500)
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    with pytest.raises(ValueError, match="unknown depht"):
        ModelConfig.from_dict({"vision": {"depht": 3}})
