"""The paper's three paradigms as pipelines."""

from typing import Any

from edgeinfer import _validate
from edgeinfer.model.cascades import Cascade
from edgeinfer.model.links import FadingLink
from edgeinfer.model.nodes import Node
from edgeinfer.model.pipelines import Compute, Pipeline, Transfer


def _check(cascade: Any, edge: Any, device: Any) -> None:
    _validate.check_kind("cascade", cascade, Cascade)
    _validate.check_kind("edge", edge, Node)
    _validate.check_kind("device", device, Node)


def split(
    cascade: Cascade, prior_steps: Any, decode_steps: Any, edge: Node, device: Node, link: FadingLink
) -> Pipeline:
    """Device-edge collaboration: prior on the edge, latent over the downlink, decoding on the device.

    Parameters
    ----------
    cascade : Cascade
    prior_steps, decode_steps : (...,) array_like
        L_prior, L_dec, >= 0.
    edge, device : Node
    link : FadingLink

    Returns
    -------
    Pipeline
        Stages named prior, downlink, decode.

    Examples
    --------
    >>> from edgeinfer import paper
    >>> s = paper.scenario()
    >>> split(s.cascade, [10, 20], 10, s.edge, s.device, s.link).shape
    (2,)
    """
    _check(cascade, edge, device)
    return Pipeline(
        (
            Compute(cascade.prior_work(prior_steps), edge, "prior"),
            Transfer(cascade.latent_bits, link, "downlink"),
            Compute(cascade.decode_work(decode_steps), device, "decode"),
        )
    )


def edge_only(
    cascade: Cascade, prior_steps: Any, decode_steps: Any, edge: Node, device: Node, link: FadingLink
) -> Pipeline:
    """All computing on the edge, the image over the downlink. Arguments as for `split`.

    Returns
    -------
    Pipeline
        Stages named inference, downlink.

    Examples
    --------
    >>> import edgeinfer as ei
    >>> s = ei.paper.scenario()
    >>> pipeline = edge_only(s.cascade, 10, 10, s.edge, s.device, s.link)
    >>> print(pipeline.names, round(ei.latency(pipeline).total, 3))
    ('inference', 'downlink') 1.098
    """
    _check(cascade, edge, device)
    work = cascade.prior_work(prior_steps) + cascade.decode_work(decode_steps)
    return Pipeline((Compute(work, edge, "inference"), Transfer(cascade.image_bits, link, "downlink")))


def device_only(
    cascade: Cascade, prior_steps: Any, decode_steps: Any, edge: Node, device: Node, link: FadingLink
) -> Pipeline:
    """All computing on the device. Arguments as for `split`.

    Returns
    -------
    Pipeline
        One stage, named inference.

    Examples
    --------
    >>> import edgeinfer as ei
    >>> s = ei.paper.scenario()
    >>> pipeline = device_only(s.cascade, 10, 10, s.edge, s.device, s.link)
    >>> print(pipeline.names, round(ei.latency(pipeline).total, 3))
    ('inference',) 1.491
    """
    _check(cascade, edge, device)
    work = cascade.prior_work(prior_steps) + cascade.decode_work(decode_steps)
    return Pipeline((Compute(work, device, "inference"),))
