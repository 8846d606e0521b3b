"""Folders of unlabelled (or labelled) chips as one readable set for pretraining."""

from suites.chips.card import ChipCard
from suites.chips.folder import TOLERATED, ChipFolder, open_chips
from suites.chips.simulated import SimulatedChips, simulated_chips

__all__ = ["TOLERATED", "ChipCard", "ChipFolder", "SimulatedChips", "open_chips", "simulated_chips"]
