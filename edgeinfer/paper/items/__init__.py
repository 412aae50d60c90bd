"""Figures and tables, one module each: `data(..)` -> Dataset, `draw(data)` -> Figure.

`data` takes the scenario first where the item depends on one, and no scenario otherwise.
"""

#: In the order of the page.
ITEMS = (
    "figure1",
    "figure2",
    "figure3",
    "figure4",
    "figure5",
    "figure6",
    "table1",
    "figure7",
    "contact_sheet",
    "figure8",
    "figure9",
    "figure10",
    "table2",
    "table3",
    "errata",
    "with_uplink",
    "dominance",
    "looseness",
    "sensitivity",
    "frames",
    "doppler",
    "distance",
    "control_overhead",
    "cut_over_rate",
    "accuracy_bits",
    "early_exit",
    "exits_under_load",
    "tiles",
    "review_rule",
    "measured_load",
    "predicted_measured",
    "terminals",
    "independent_terminals",
    "schedulers",
    "batching",
    "even_arrivals",
)
