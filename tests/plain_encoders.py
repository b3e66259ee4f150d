"""Sequence encoders as anyone would write them with torch.nn, one sequence at a time, without padding or packing."""

import torch
from torch import nn


class PlainGru(nn.Module):
    """States of one layer of GRU after each item, normalised, of length about 1."""

    def __init__(self, dim, arrays, settings):
        super().__init__()
        self.gru, self.norm = nn.GRU(dim, dim, batch_first=True), nn.LayerNorm(dim)
        self.double()
        put(self.gru.weight_ih_l0, arrays["input.weight"].T)
        put(self.gru.weight_hh_l0, arrays["state.weight"].T)
        put(self.gru.bias_ih_l0, arrays["input.bias"][0])
        put(self.gru.bias_hh_l0, arrays["state.bias"][0])
        put_norm(self.norm, arrays, "final")

    def forward(self, items, last=0):
        """``(n, E) -> (n, E)``, wherever the sequence ends."""
        return self.norm(self.gru(items[None])[0][0]) / items.shape[1] ** 0.5


class PlainAttention(nn.Module):
    """SASRec with normalised inputs of the blocks, from `nn.MultiheadAttention`."""

    def __init__(self, dim, arrays, settings):
        super().__init__()
        self.positions, self.norm = nn.Parameter(torch.tensor(arrays["positions"])), nn.LayerNorm(dim)
        self.blocks = nn.ModuleList()
        for number in range(settings["attention_layers"]):
            own = {name.removeprefix(f"block{number}."): array for name, array in arrays.items()}
            attention = nn.MultiheadAttention(dim, settings["attention_heads"], bias=False, batch_first=True)
            inner, outer = nn.Linear(dim, dim), nn.Linear(dim, dim)
            norms = [nn.LayerNorm(dim), nn.LayerNorm(dim)]
            names = ("attention", "inner", "outer", "norm1", "norm2")
            block = nn.ModuleDict(dict(zip(names, (attention, inner, outer, *norms), strict=True))).double()
            put(attention.in_proj_weight, own["qkv.weight"].T)
            put(attention.out_proj.weight, own["out.weight"].T)
            for linear, name in ((inner, "inner"), (outer, "outer")):
                put(linear.weight, own[f"{name}.weight"].T)
                put(linear.bias, own[f"{name}.bias"][0])
            for norm, name in zip(norms, ("norm1", "norm2"), strict=True):
                put_norm(norm, own, name)
            self.blocks.append(block)
        self.double()
        put_norm(self.norm, arrays, "final")

    def forward(self, items, last=0):
        """``(n, E) -> (n, E)``; the last item is `last` items before the latest, which has position 0."""
        n, dim = items.shape
        x = items * dim**0.5 + self.positions[last : last + n].flip(0)
        later = torch.ones(n, n, dtype=torch.bool).triu(1)
        for block in self.blocks:
            y = block["norm1"](x)
            x = x + block["attention"](y[None], y[None], y[None], attn_mask=later, need_weights=False)[0][0]
            x = x + block["outer"](block["inner"](block["norm2"](x)).relu())
        return self.norm(x) / dim**0.5


PLAIN_ENCODERS = {"gru": PlainGru, "attention": PlainAttention}


def put(parameter, array):
    """Gives a parameter the values of an array."""
    assert parameter.shape == array.shape
    parameter.data = torch.tensor(array.copy(), dtype=torch.float64)


def put_norm(norm, arrays, name):
    """Gives a normalisation its gain and bias."""
    norm.double()
    put(norm.weight, arrays[f"{name}.gain"][0])
    put(norm.bias, arrays[f"{name}.bias"][0])


def encoder_arrays(arrays, encoder):
    """The parameters of an encoder among a member's arrays (`Population.member_arrays`), by their own names."""
    prefix = f"encoder.{encoder}."
    return {name.removeprefix(prefix): a[0] for name, a in arrays.items() if name.startswith(prefix)}


def encoder_pairs(module):
    """Each parameter of a plain encoder as an array, by the encoder's own name of it."""
    if isinstance(module, PlainGru):
        own = {"input": (module.gru.weight_ih_l0, module.gru.bias_ih_l0)}
        own["state"] = (module.gru.weight_hh_l0, module.gru.bias_hh_l0)
    else:
        own = {}
        for number, block in enumerate(module.blocks):
            attention = block["attention"]
            own |= {f"block{number}.qkv": (attention.in_proj_weight, None)}
            own |= {f"block{number}.out": (attention.out_proj.weight, None)}
            own |= {f"block{number}.{name}": (block[name].weight, block[name].bias) for name in ("inner", "outer")}
    out = {f"{name}.weight": weight.T for name, (weight, _) in own.items()}
    out |= {f"{name}.bias": bias[None] for name, (_, bias) in own.items() if bias is not None}
    norms = {"final": module.norm}
    if isinstance(module, PlainAttention):
        out["positions"] = module.positions
        for number, block in enumerate(module.blocks):
            norms |= {f"block{number}.{name}": block[name] for name in ("norm1", "norm2")}
    for name, norm in norms.items():
        out |= {f"{name}.gain": norm.weight[None], f"{name}.bias": norm.bias[None]}
    return {name: parameter.detach().numpy() for name, parameter in out.items()}
