"""The sharing mechanisms as their papers write them: ordinary layers of a single model in Python lists.

The tests compare evorec with these modules, and the sequential baseline trains them. Every mechanism takes the ranker's
inputs ``[x_0, x_1, ..]``, an input per embedding group (first the shared group, then a group per task), and returns the
logits ``(B,)`` of each task. `pairs` lists each parameter with the array of a member (`Population.member_arrays`) that
should equal it.
"""

import torch
from torch import nn

OWN_STITCH = 0.9
"""Initial weight of a task's own unit in a cross-stitch."""


class Layers(nn.Module):
    """Linear, ReLU and dropout at each of the given levels."""

    def __init__(self, n_in, width, levels):
        super().__init__()
        self.levels = levels
        self.linear = nn.ModuleList(nn.Linear(width if level else n_in, width) for level in levels)

    def forward(self, x, dropped):
        for level, linear in zip(self.levels, self.linear, strict=True):
            x = dropped(level, torch.relu(linear(x)))
        return x

    def pairs(self, arrays, slot):
        out = []
        for level, linear in zip(self.levels, self.linear, strict=True):
            out.append((linear.weight, arrays[f"layer{level}.weight"][slot].T))
            out.append((linear.bias, arrays[f"layer{level}.bias"][slot, 0]))
        return out


class Mechanism(nn.Module):
    """Streams of the tasks, then a tower and a head per task."""

    def __init__(self, spec, n_in, n_layers, parents):
        super().__init__()
        self.spec, self.n_in, self.parents, self.n_layers = spec, n_in, parents, n_layers
        self.width, self.depth, self.n_tasks = spec.width, spec.sharing_depth, len(parents)
        self.tasks = range(self.n_tasks)
        self.build()
        self.towers = nn.ModuleList(Layers(n_in, self.width, range(self.depth, n_layers)) for _ in self.tasks)
        self.heads = nn.ModuleList(nn.Linear(self.width, 1) for _ in self.tasks)

    def build(self):
        """Create the modules below the towers."""

    def forward(self, inputs, dropped):
        streams = self.streams(inputs, dropped)
        return self.finish([tower(stream, dropped) for tower, stream in zip(self.towers, streams, strict=True)])

    def streams(self, inputs, dropped):
        """The input of each tower."""
        raise NotImplementedError

    def finish(self, tops):
        logits = [head(top)[:, 0] for head, top in zip(self.heads, tops, strict=True)]
        return [logit.float() if logit.dtype == torch.bfloat16 else logit for logit in logits]

    def calibrator(self, logits):
        """An additional loss to those of the tasks."""
        return torch.zeros((), dtype=logits[0].dtype)

    def pairs(self, arrays):
        out = self.own_pairs(arrays)
        for task, (tower, head) in enumerate(zip(self.towers, self.heads, strict=True)):
            out += tower.pairs(arrays, task)
            out.append((head.weight, arrays["head.weight"][task].T))
            out.append((head.bias, arrays["head.bias"][task, 0]))
        return out

    def own_pairs(self, arrays):
        raise NotImplementedError


def own_input(inputs, task):
    """The input of a task's own units."""
    return inputs[task + 1] if len(inputs) > 1 else inputs[0]


class SharedBottom(Mechanism):
    """Caruana 1997; without shared layers, a model per task."""

    def build(self):
        self.bottom = Layers(self.n_in, self.width, range(self.depth))

    def streams(self, inputs, dropped):
        if self.depth == 0:
            return [own_input(inputs, task) for task in self.tasks]
        return [self.bottom(inputs[0], dropped)] * self.n_tasks

    def own_pairs(self, arrays):
        return self.bottom.pairs(arrays, 0)


class Esmm(SharedBottom):
    """Ma et al., SIGIR 2018: a task after the click has the probability of the click as a factor."""

    def finish(self, tops):
        logs = [torch.nn.functional.logsigmoid(logit) for logit in super().finish(tops)]
        out = []
        for task in self.tasks:
            log_p, at = logs[task], self.parents[task]
            while at >= 0:
                log_p, at = log_p + logs[at], self.parents[at]
            out.append(log_p - torch.log(-torch.expm1(log_p.clamp_max(-torch.finfo(log_p.dtype).eps))))
        return out


class Aitm(SharedBottom):
    """Xi et al., KDD 2021: attention between a task's own tower and the information passed on by its parent."""

    def build(self):
        super().build()
        n, width = len([parent for parent in self.parents if parent >= 0]), self.width
        self.info = nn.ModuleList(nn.Linear(width, width) for _ in range(n))
        self.query, self.key, self.value = (
            nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(n)) for _ in range(3)
        )

    def slot(self, task):
        """Index of a task among those with a parent."""
        return [t for t in self.tasks if self.parents[t] >= 0].index(task)

    def finish(self, tops):
        found = {}

        def output(task):
            if task not in found:
                parent = self.parents[task]
                found[task] = tops[task] if parent < 0 else self.attend(self.slot(task), tops[task], output(parent))
            return found[task]

        return super().finish([output(task) for task in self.tasks])

    def attend(self, slot, own, below):
        passed = torch.relu(self.info[slot](below))
        agreement, values = [], []
        for candidate in (own, passed):
            agreement.append((self.query[slot](candidate) * self.key[slot](candidate)).sum(1) / self.width**0.5)
            values.append(self.value[slot](candidate))
        share = torch.softmax(torch.stack(agreement, 1), 1)
        return share[:, [0]] * values[0] + share[:, [1]] * values[1]

    def calibrator(self, logits):
        out = super().calibrator(logits)
        for task, parent in enumerate(self.parents):
            if parent >= 0:
                out = out + torch.clamp(torch.sigmoid(logits[task]) - torch.sigmoid(logits[parent]), min=0).mean()
        return self.spec.setting("calibrator_weight") * out

    def own_pairs(self, arrays):
        out = super().own_pairs(arrays)
        for slot in range(len(self.info)):
            out.append((self.info[slot].bias, arrays["info.bias"][slot, 0]))
            for name in ("info", "query", "key", "value"):
                out.append((getattr(self, name)[slot].weight, arrays[f"{name}.weight"][slot].T))
        return out


class CrossStitch(Mechanism):
    """Misra et al., CVPR 2016: a network per task; activations are mixed after each of the first layers."""

    def build(self):
        self.units = nn.ModuleList(
            nn.ModuleList(Layers(self.n_in, self.width, [level]) for _ in self.tasks) for level in range(self.depth)
        )
        others = (1 - OWN_STITCH) / max(self.n_tasks - 1, 1)
        first = torch.eye(self.n_tasks) * (OWN_STITCH - others) + others
        self.stitches = nn.ParameterList(nn.Parameter(first.clone()) for _ in range(self.depth))

    def streams(self, inputs, dropped):
        h = [own_input(inputs, task) for task in self.tasks]
        for units, stitch in zip(self.units, self.stitches, strict=True):
            h = [unit(x, dropped) for unit, x in zip(units, h, strict=True)]
            h = [sum(stitch[to, task] * h[task] for task in self.tasks) for to in self.tasks]
        return h

    def own_pairs(self, arrays):
        out = [pair for units in self.units for task, unit in enumerate(units) for pair in unit.pairs(arrays, task)]
        return out + [(stitch, arrays[f"stitch{level}.weight"][0]) for level, stitch in enumerate(self.stitches)]


def mixture(gate, x, experts):
    """Experts weighed by a softmax of a linear layer of `x`."""
    share = torch.softmax(gate(x), 1)
    return sum(share[:, [k]] * expert for k, expert in enumerate(experts))


class Mmoe(Mechanism):
    """Ma et al., KDD 2018: every task mixes the same experts."""

    def build(self):
        n = self.spec.setting("experts")
        self.experts = nn.ModuleList(Layers(self.n_in, self.width, range(self.depth)) for _ in range(n))
        self.gates = nn.ModuleList(nn.Linear(self.n_in, n, bias=False) for _ in self.tasks)

    def streams(self, inputs, dropped):
        experts = [expert(inputs[0], dropped) for expert in self.experts]
        return [mixture(self.gates[task], own_input(inputs, task), experts) for task in self.tasks]

    def own_pairs(self, arrays):
        out = [pair for slot, expert in enumerate(self.experts) for pair in expert.pairs(arrays, slot)]
        return out + [
            (gate.weight, arrays[f"gate{self.depth - 1}.weight"][task].T) for task, gate in enumerate(self.gates)
        ]


class Cgc(Mechanism):
    """Tang et al., RecSys 2020, a single level: every task mixes its own and the shared experts."""

    every = False  # whether a gate sees the other tasks' experts too

    def build(self):
        n_own, n_shared, levels = (
            self.spec.setting("task_experts"),
            self.spec.setting("shared_experts"),
            range(self.depth),
        )
        self.own = nn.ModuleList(
            nn.ModuleList(Layers(self.n_in, self.width, levels) for _ in range(n_own)) for _ in self.tasks
        )
        self.common = nn.ModuleList(Layers(self.n_in, self.width, levels) for _ in range(n_shared))
        n = n_shared + n_own * (self.n_tasks if self.every else 1)
        self.gates = nn.ModuleList(nn.Linear(self.n_in, n, bias=False) for _ in self.tasks)

    def streams(self, inputs, dropped):
        own = [[expert(own_input(inputs, task), dropped) for expert in self.own[task]] for task in self.tasks]
        common = [expert(inputs[0], dropped) for expert in self.common]
        return [mixture(self.gates[task], own_input(inputs, task), self.seen(own, common, task)) for task in self.tasks]

    def seen(self, own, common, task):
        return [*own[task], *common]

    def own_pairs(self, arrays):
        experts = [*(expert for own in self.own for expert in own), *self.common]
        out = [pair for slot, expert in enumerate(experts) for pair in expert.pairs(arrays, slot)]
        return out + [
            (gate.weight, arrays[f"gate{self.depth - 1}.weight"][task].T) for task, gate in enumerate(self.gates)
        ]


class Stem(Cgc):
    """Su et al., AAAI 2024: all experts forward, no gradient into the experts of other tasks."""

    every = True

    def seen(self, own, common, task):
        out = [expert if t == task else expert.detach() for t in self.tasks for expert in own[t]]
        return [*out, *common]


class Ple(Mechanism):
    """Tang et al., RecSys 2020: levels of single-layer experts; the shared stream sees every expert."""

    def build(self):
        n_own, n_shared = self.spec.setting("task_experts"), self.spec.setting("shared_experts")
        self.own, self.common, self.gates, self.shared_gates = (nn.ModuleList() for _ in range(4))
        for level in range(self.depth):
            n_in, one = self.width if level else self.n_in, [level]
            self.own.append(
                nn.ModuleList(
                    nn.ModuleList(Layers(self.n_in, self.width, one) for _ in range(n_own)) for _ in self.tasks
                )
            )
            self.common.append(nn.ModuleList(Layers(self.n_in, self.width, one) for _ in range(n_shared)))
            self.gates.append(nn.ModuleList(nn.Linear(n_in, n_own + n_shared, bias=False) for _ in self.tasks))
            if level < self.depth - 1:
                self.shared_gates.append(nn.Linear(n_in, n_own * self.n_tasks + n_shared, bias=False))

    def streams(self, inputs, dropped):
        stream, common_stream = [own_input(inputs, task) for task in self.tasks], inputs[0]
        for level in range(self.depth):
            own = [[expert(stream[task], dropped) for expert in self.own[level][task]] for task in self.tasks]
            common = [expert(common_stream, dropped) for expert in self.common[level]]
            if level < self.depth - 1:
                every = [*(expert for of_task in own for expert in of_task), *common]
                common_stream = mixture(self.shared_gates[level], common_stream, every)
            stream = [mixture(self.gates[level][task], stream[task], [*own[task], *common]) for task in self.tasks]
        return stream

    def own_pairs(self, arrays):
        out = []
        for level in range(self.depth):
            experts = [*(expert for own in self.own[level] for expert in own), *self.common[level]]
            out += [pair for slot, expert in enumerate(experts) for pair in expert.pairs(arrays, slot)]
            for task, gate in enumerate(self.gates[level]):
                out.append((gate.weight, arrays[f"gate{level}.weight"][task].T))
        for level, gate in enumerate(self.shared_gates):
            out.append((gate.weight, arrays[f"shared_gate{level}.weight"][0].T))
        return out


REFERENCES = {
    "single_task": SharedBottom,
    "shared_bottom": SharedBottom,
    "esmm": Esmm,
    "aitm": Aitm,
    "cross_stitch": CrossStitch,
    "mmoe": Mmoe,
    "cgc": Cgc,
    "stem": Stem,
    "ple": Ple,
}
