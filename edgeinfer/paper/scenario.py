"""The paper's parameters: Table 3 as given, and what Table 3 leaves out as assumed."""

from dataclasses import dataclass, fields
from dataclasses import replace as _replace
from typing import Any

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
_GIVEN = ("tx_power_dbm bandwidth noise_dbm encoder prior_step feature decode_step image_bits latent_bits").split()


@dataclass(frozen=True, eq=False)
class Scenario(_validate.Value):
    """Parameters of the paper's evaluation; SI units. Arrays broadcast, so a sweep is one scenario.

    Attributes
    ----------
    tx_power_dbm, bandwidth, noise_dbm, path_loss_db, slot, control_overhead
        Of the downlink: dBm, Hz, dBm, dB, s, share.
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

    def __post_init__(self) -> None:
        for field in fields(self):
            object.__setattr__(self, field.name, _validate.real(field.name, getattr(self, field.name)))
        self.link, self.cascade, self.edge, self.device  # noqa: B018  each checks its own ranges
        _validate.positive("arrival_rate", self.arrival_rate)

    @property
    def provenance(self) -> dict[str, str]:
        """Each parameter: "given" by Table 3, "assumed" where it is silent, "chosen" by the caller."""
        answer = {}
        for field in fields(self):
            kind = "given" if field.name in _GIVEN else "assumed"
            same = _validate._same(getattr(self, field.name), field.default)
            answer[field.name] = kind if same else "chosen"
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
        return _replace(self, **changes)

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


def scenario() -> Scenario:
    """Table 3 and the assumed values.

    Examples
    --------
    >>> from edgeinfer import latency
    >>> [round(latency(p, "ergodic").total, 3) for p in scenario().pipelines().values()]
    [1.506, 1.546, 2.457]
    """
    return Scenario()
