"""The paper's parameters: Table 3 as given, and what Table 3 leaves out as assumed."""

from dataclasses import dataclass, fields
from dataclasses import replace as _replace
from pathlib import Path
from typing import Any, ClassVar

from edgeinfer import _validate
from edgeinfer.model import Cascade, Node, Pipeline, RayleighLink, device_only, edge_only, split

_UNITS = {
    "tx_power_dbm": "dBm",
    "bandwidth": "Hz",
    "noise_dbm": "dBm",
    "path_loss_db": "dB",
    "slot": "s",
    "encoder": "FLOP",
    "prior_step": "FLOP",
    "feature": "FLOP",
    "decode_step": "FLOP",
    "image_bits": "bit",
    "latent_bits": "bit",
    "edge_flops": "FLOP/s",
    "device_flops": "FLOP/s",
    "arrival_rate": "1/s",
}
#: Measured on the shipped cascade by `edgeinfer measure`.
_PROFILE = Path(__file__).parent / "data" / "profile.json"
_GIVEN = ("tx_power_dbm bandwidth noise_dbm encoder prior_step feature decode_step image_bits latent_bits").split()


@dataclass(frozen=True, eq=False)
class Scenario(_validate.Value):
    """Parameters of the paper's evaluation; SI units. Arrays broadcast, so a sweep is one scenario.

    Attributes
    ----------
    tx_power_dbm, bandwidth, noise_dbm, path_loss_db, slot, control_overhead
        Parameters of the downlink: dBm, Hz, dBm, dB, s, share.
    encoder, prior_step, feature, decode_step : FLOP
    image_bits, latent_bits : bit
    prior_steps, decode_steps
    guidance_passes
        Network passes a denoising step costs: the paper counts 1, classifier-free guidance (2) runs 2.
    edge_flops, device_flops : FLOP/s
    arrival_rate : 1/s

    Examples
    --------
    >>> s = scenario()
    >>> s.provenance["bandwidth"], s.provenance["path_loss_db"]
    ('given', 'assumed')
    >>> s.replace(prior_steps=30).provenance["prior_steps"]
    'chosen'
    """

    tx_power_dbm: Any = 31.0
    bandwidth: Any = 10e6
    noise_dbm: Any = -100.0
    path_loss_db: Any = 128.1
    slot: Any = 0.01
    control_overhead: Any = 0.0
    encoder: Any = 0.1940e12
    prior_step: Any = 6.7598e12
    feature: Any = 1.1170e12
    decode_step: Any = 3.5492e12
    image_bits: Any = 5.2429e6
    latent_bits: Any = 1.0486e6
    prior_steps: Any = 20.0
    decode_steps: Any = 10.0
    guidance_passes: Any = 1.0
    edge_flops: Any = 150e12
    device_flops: Any = 70e12
    arrival_rate: Any = 0.35

    # Of a scenario that is not the paper's: name, value and kind of each parameter.
    _origin: ClassVar[tuple[tuple[str, Any, str], ...]] = ()

    def __post_init__(self) -> None:
        for field in fields(self):
            value = _validate.real(field.name, getattr(self, field.name), unit=self.units[field.name])
            object.__setattr__(self, field.name, value)
        _validate.real("guidance_passes", self.guidance_passes, 0)
        self.link, self.cascade, self.edge, self.device  # noqa: B018  each checks its own ranges
        _validate.positive("arrival_rate", self.arrival_rate)

    @property
    def provenance(self) -> dict[str, str]:
        """Each parameter: "given" by Table 3, "assumed" where it is silent, "chosen" by the caller.

        Those of `measured_scenario` are "measured", "derived" or "chosen".
        """
        answer = {}
        origin = {name: (value, kind) for name, value, kind in self._origin}
        for field in fields(self):
            paper = field.default, "given" if field.name in _GIVEN else "assumed"
            value, kind = origin.get(field.name, paper)
            answer[field.name] = kind if _validate._same(getattr(self, field.name), value) else "chosen"
        return answer

    @property
    def units(self) -> dict[str, str]:
        """Unit of each parameter; "1" for a pure number."""
        return {field.name: _UNITS.get(field.name, "1") for field in fields(self)}

    def replace(self, **changes: Any) -> "Scenario":
        """A scenario with some parameters changed; ValueError for an unknown name."""
        known = {field.name for field in fields(self)}
        for name in changes:
            if name not in known:
                raise ValueError(f"{name}: must be one of {', '.join(sorted(known))}")
        answer = _replace(self, **changes)
        if self._origin:
            object.__setattr__(answer, "_origin", self._origin)
        return answer

    @property
    def link(self) -> RayleighLink:
        """The downlink."""
        return RayleighLink(
            self.bandwidth,
            self.tx_power_dbm,
            self.noise_dbm,
            self.path_loss_db,
            self.slot,
            self.control_overhead,
        )

    @property
    def cascade(self) -> Cascade:
        """Costs of the generative model, guidance passes included."""
        return Cascade(
            self.encoder,
            self.prior_step * self.guidance_passes,
            self.feature,
            self.decode_step * self.guidance_passes,
            self.latent_bits,
            self.image_bits,
        )

    @property
    def edge(self) -> Node:
        """The edge node."""
        return Node("edge", self.edge_flops)

    @property
    def device(self) -> Node:
        """The device."""
        return Node("device", self.device_flops)

    def pipelines(self) -> dict[str, Pipeline]:
        """The three paradigms: split, edge_only, device_only."""
        arguments = (self.cascade, self.prior_steps, self.decode_steps, self.edge, self.device, self.link)
        return {
            "split": split(*arguments),
            "edge_only": edge_only(*arguments),
            "device_only": device_only(*arguments),
        }


#: Of the downlink and the load that the measured scenario has beside the cascade's own numbers.
_CHOSEN = {
    "tx_power_dbm": 31.0,
    "bandwidth": 2e6,
    "noise_dbm": -100.0,
    "path_loss_db": 128.1,
    "slot": 0.01,
    "control_overhead": 0.0,
    "arrival_rate": 2.0,
}


def measured_scenario(profile: str | Path | None = None, *, slowdown: float = 2.0) -> Scenario:
    """The shipped cascade's own numbers: its FLOP and bits, and the speed that it was measured to run at.

    Each node has one rate, the edge that of the prior stage and the device that of the decode stage over `slowdown`, so
    that a stage that runs on the other node takes nearly, not exactly, its measured time; `bridge.Profile.pipelines`
    has the times themselves. Guidance's passes are counted in `decode_step`. The downlink and the arrival rate are
    chosen: the paper's channel at a bandwidth and a load at which transfers and queues matter.

    Parameters
    ----------
    profile : path, optional
        What `bridge.Profile.save` writes; the shipped one by default.
    slowdown : float
        How many times slower the device is than the machine that was measured, > 0.

    Returns
    -------
    Scenario
        `.provenance` says measured, derived or chosen.

    Raises
    ------
    FileNotFoundError
        Naming the command that makes the shipped profile, where it is not there.
    ValueError
        For a file that is no profile.

    Examples
    --------
    >>> scenario = measured_scenario()
    >>> scenario.provenance["edge_flops"], scenario.provenance["prior_step"], scenario.provenance["bandwidth"]
    ('measured', 'derived', 'chosen')
    """
    from edgeinfer.bridge.cascade.profiles import Profile

    path = _PROFILE if profile is None else _validate.path("profile", profile)
    if not path.exists():
        raise FileNotFoundError(
            f"{path}: is not there: `edgeinfer measure` makes it, pip install edgeinfer-models brings it"
        )
    found = Profile.load(path)
    costs = found.costs
    derived = {name: getattr(costs, name) for name in ("encoder", "prior_step", "feature", "decode_step")}
    derived |= {"latent_bits": costs.latent_bits, "image_bits": costs.image_bits, "guidance_passes": 1.0}
    measured = {"edge_flops": found.edge_flops, "device_flops": found.device_flops(slowdown)}
    chosen = _CHOSEN | {"prior_steps": found.prior_steps, "decode_steps": found.decode_steps}
    answer = Scenario(**derived, **measured, **chosen)
    kinds = {"derived": derived, "measured": measured, "chosen": chosen}
    origin = tuple((name, getattr(answer, name), kind) for kind, names in kinds.items() for name in names)
    object.__setattr__(answer, "_origin", origin)
    return answer


def scenario() -> Scenario:
    """Table 3 and the assumed values.

    Examples
    --------
    >>> from edgeinfer import latency
    >>> [round(latency(p, "ergodic").total, 3) for p in scenario().pipelines().values()]
    [1.506, 1.546, 2.457]
    """
    return Scenario()
