"""Devices: from the name that a user gives to one that torch has and our models can use."""

from __future__ import annotations

import torch


def resolve_device(name: str) -> torch.device:
    """The torch device of a name; ``"auto"`` is ``"cuda"`` where there is one, else ``"cpu"``.

    Raises
    ------
    ValueError
        If torch does not know the device, if this machine does not have it, or if it cannot compute in double
        precision.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    advice = "Choose device='auto', which is 'cuda' where there is one and else 'cpu'."
    try:
        device = torch.device(name)
        torch.zeros(1, dtype=torch.float64, device=device) + 1
    except Exception as error:  # torch raises RuntimeError, AssertionError, TypeError, NotImplementedError, ...
        reason = str(error).strip().split("\n")[0].split(". ")[0]
        raise ValueError(
            f"device={name!r} cannot be used: it is unknown to torch, missing on this machine, or without the double "
            f"precision that results are computed in ({reason}). {advice}"
        ) from error
    if device.type == "meta":
        raise ValueError(f"device={name!r} holds no numbers. {advice}")
    return device
