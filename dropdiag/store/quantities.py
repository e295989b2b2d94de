"""The quantities that dropdiag itself records, and of which active measurement they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from dropdiag.store.quantity import LOG_RATIO, MAXIMUM, MINIMUM, SUM, UNCOMPARED, Quantity


def _moments(of: str, unit: str, symbol: str) -> tuple[Quantity, ...]:
    return (
        Quantity(f"{of}_mean", "scalar", unit, f"mean of {symbol}"),
        Quantity(f"{of}_sd", "scalar", unit, f"standard deviation of {symbol}"),
        Quantity(f"{of}_excess_kurtosis", "scalar", "1", f"excess kurtosis of {symbol}"),
        Quantity(f"{of}_abs_mean", "scalar", unit, f"mean of |{symbol}|"),
        Quantity(f"{of}_minimum", "scalar", unit, f"minimum of {symbol}", merge=MINIMUM),
        Quantity(f"{of}_maximum", "scalar", unit, f"maximum of {symbol}", merge=MAXIMUM),
    )


_PER_NET = "loss units per net-value unit"
_PER_WEIGHT = "loss units per weight unit"
_PER_WEIGHT_SQUARED = "loss units per weight unit squared"
_PER_NODE = "loss units per node-value unit"
_PER_OUTPUT = "loss units per unit of the output"

QUANTITIES: Final = {
    q.name: q
    for q in (
        Quantity("weight", "histogram", "weight units", "weight $w$"),
        Quantity("weight_grad", "histogram", _PER_WEIGHT, r"weight gradient $\partial L/\partial w$"),
        Quantity("net_value", "histogram", "net-value units", "net value $z$"),
        Quantity("net_grad", "histogram", _PER_NET, r"net gradient $\partial L/\partial z$"),
        Quantity("node_value", "histogram", "node-value units", r"node value $h=\phi(z)$"),
        Quantity("node_correlation", "histogram", "1", "node correlation $r$"),
        Quantity("net_grad_abs_mean", "scalar", _PER_NET, r"gradient flow, mean $|\partial L/\partial z|$", LOG_RATIO),
        Quantity("weight_grad_abs_mean", "scalar", _PER_WEIGHT, r"mean $|\partial L/\partial w|$", LOG_RATIO),
        Quantity("raw_weight_grad_abs_mean", "scalar", _PER_WEIGHT,
                 r"mean $|\partial L/\partial w|$ before clipping", LOG_RATIO),
        Quantity("node_correlation_abs_mean", "scalar", "1", "mean $|r|$", UNCOMPARED),
        Quantity("participation_ratio", "scalar", "nodes", "participation ratio"),
        Quantity("effective_rank", "scalar", "nodes", "effective rank"),
        Quantity("node_correlation_samples", "scalar", "samples", "samples", UNCOMPARED, SUM),
        Quantity("node_correlation_items", "scalar", "items", "items that the samples are of", UNCOMPARED, SUM),
        Quantity("node_correlation_nodes", "scalar", "nodes", "nodes correlated", UNCOMPARED),
        Quantity("node_correlation_width", "scalar", "nodes", "nodes of the layer", UNCOMPARED),
        Quantity("constant_nodes", "scalar", "nodes", "constant nodes", UNCOMPARED),
        Quantity("saturation_share_left", "scalar", "1", "saturation share, left", UNCOMPARED),
        Quantity("saturation_share_right", "scalar", "1", "saturation share, right", UNCOMPARED),
        Quantity("net_variance", "histogram", "net-value units squared", "net variance", UNCOMPARED),
        Quantity("masked_net_mean", "histogram", "net-value units", "mean of $z$ over masks", UNCOMPARED),
        Quantity("wandering_net_value", "histogram", "net-value units", "net value $z$ under masks", UNCOMPARED),
        Quantity("saturated_net_mean", "histogram", "net-value units", "mean of $z$ over masks, saturated", UNCOMPARED),
        Quantity("gradient_net_mean", "histogram", "net-value units",
                 "mean of $z$ over masks, for each mask with gradient", UNCOMPARED),
        Quantity("net_variance_mean", "scalar", "net-value units squared", "mean net variance", LOG_RATIO),
        Quantity("net_variance_closed_form_mean", "scalar", "net-value units squared",
                 "net variance, closed form", LOG_RATIO),
        Quantity("saturated_mean_share", "scalar", "1", "share of saturated mean net values"),
        Quantity("gradient_probability", "scalar", "1", "gradient probability"),
        Quantity("slope_over_masks", "scalar", "1", r"mean $|\phi'(z)|$ over masks", LOG_RATIO),
        Quantity("slope_at_mean", "scalar", "1", r"$|\phi'|$ at the mean of $z$", LOG_RATIO),
        Quantity("dropout_masks", "scalar", "masks", "dropout masks", UNCOMPARED),
        Quantity("dropout_rate", "scalar", "1", "dropout rate", UNCOMPARED),
        Quantity("dropped_share", "scalar", "1", "dropped share"),
        Quantity("dropout_noise_to_signal", "scalar", "1", "noise-to-signal ratio of dropout", LOG_RATIO),
        Quantity("gaaf_height", "scalar", "1", "height of GAAF's shape", UNCOMPARED),
        Quantity("gaaf_width", "scalar", "net-value units", "width of GAAF's shape", UNCOMPARED),
        Quantity("net_value_stride", "scalar", "1", "one in so many net values counted", UNCOMPARED),
        Quantity("node_value_stride", "scalar", "1", "one in so many node values counted", UNCOMPARED),
        Quantity("net_grad_stride", "scalar", "1", "one in so many gradients counted", UNCOMPARED),
        Quantity("repeated_items", "scalar", "items", "items that ranks were given twice", UNCOMPARED),
        Quantity("evaluation_digest", "scalar", "1", "digest of an evaluation's histograms", UNCOMPARED),
        Quantity("step_skipped", "scalar", "1", "whether the loss scaler skipped the step", UNCOMPARED),
        Quantity("step_seconds", "scalar", "s", "time of a training step", UNCOMPARED),
        Quantity("evaluation_seconds", "scalar", "s", "time of an evaluation", UNCOMPARED),
        Quantity("recorder_seconds", "scalar", "s", "time in the recorder", UNCOMPARED),
        Quantity("schedule_thinned", "scalar", "1", "whether a scheduled step went without histograms", UNCOMPARED),
        Quantity("probes_rested", "scalar", "1", "whether a step was not recorded", UNCOMPARED),
        # flow decomposition: compared by a table of its own
        Quantity("node_grad_abs_mean", "scalar", _PER_NODE, r"mean $|\partial L/\partial h|$", UNCOMPARED),
        Quantity("mask_output_grad_abs_mean", "scalar", _PER_NODE,
                 r"mean $|\partial L/\partial \tilde h|$ after the mask", UNCOMPARED),
        Quantity("mask_input_grad_abs_mean", "scalar", _PER_NODE,
                 r"mean $|\partial L/\partial h|$ before the mask", UNCOMPARED),
        Quantity("path_grad_abs_mean", "scalar", _PER_NODE,
                 "mean absolute gradient of an output, by the path", UNCOMPARED),
        Quantity("input_path_grad_abs_mean", "scalar", _PER_NODE,
                 "mean absolute gradient of an input, by the path", UNCOMPARED),
        Quantity("output_grad_abs_mean", "scalar", _PER_OUTPUT, r"output error, mean $|\partial L/\partial y|$",
                 UNCOMPARED),
        *_moments("weight", "weight units", "$w$"),
        *_moments("net_value", "net-value units", "$z$"),
        # ablation
        Quantity("ablation_interaction", "scalar", "1", "interaction $I$ of partners"),
        Quantity("ablation_interaction_null", "scalar", "1", "interaction $I$ of random groups", UNCOMPARED),
        Quantity("ablation_interaction_null_sd", "scalar", "1", "sd of $I$ over random groups", UNCOMPARED),
        Quantity("ablated_loss", "scalar", "loss units", "loss, share of nodes ablated"),
        Quantity("ablated_loss_se", "scalar", "loss units", "standard error of the loss, ablated", UNCOMPARED),
        Quantity("ablated_accuracy", "scalar", "1", "accuracy, share of nodes ablated"),
        Quantity("ablated_accuracy_se", "scalar", "1", "standard error of the accuracy, ablated", UNCOMPARED),
        # gradient direction
        *(Quantity(f"gradient_{what}_masks_{switch}", "scalar", unit, f"{label}, masks {switch}", scale)
          for what, unit, label, scale in (
              ("direction_variance", "1", "variance of the gradient's direction", ""),
              ("direction_error", "1", "error of the gradient's direction", ""),
              ("noise_scale", "samples", r"gradient noise scale $\mathrm{tr}\,\Sigma/|G|^2$", LOG_RATIO))
          for switch in ("on", "off")),
        # masks by weights
        Quantity("flow_masks_off", "scalar", _PER_NET, r"mean $|\partial L/\partial z|$, masks off", LOG_RATIO),
        Quantity("flow_masks_on", "scalar", _PER_NET, r"mean $|\partial L/\partial z|$, masks on", LOG_RATIO),
        # ensemble
        Quantity("ensemble_kl_geometric", "scalar", "nats", "KL(geometric mean, weight scaling)"),
        Quantity("ensemble_kl_arithmetic", "scalar", "nats", "KL(arithmetic mean, weight scaling)"),
        *(Quantity(f"ensemble_kl_{mean}_bias", "scalar", "nats", f"KL({mean} mean, weight scaling), by few masks",
                   UNCOMPARED) for mean in ("geometric", "arithmetic")),
        *(Quantity(f"{score}_{output}", "scalar", unit, f"{called}, {words}")
          for score, unit, called in (("nll", "nats", "NLL"), ("accuracy", "1", "accuracy"),
                                      ("calibration_error", "1", "calibration error"))
          for output, words in (("weight_scaled", "weight scaling"), ("geometric", "geometric mean"),
                                ("arithmetic", "arithmetic mean"))),
        Quantity("predictive_entropy", "scalar", "nats", "predictive entropy"),
        Quantity("mutual_information", "scalar", "nats", "mutual information of output and mask"),
        Quantity("regulariser", "scalar", "loss units", "regulariser, $E_m L - L$"),
        Quantity("regulariser_se", "scalar", "loss units", "standard error of the regulariser", UNCOMPARED),
        Quantity("ensemble_masks", "scalar", "masks", "masks of the ensemble", UNCOMPARED),
        # flatness
        Quantity("hessian_eigenvalue", "scalar", "loss units per parameter unit squared", "eigenvalue of the Hessian"),
        Quantity("hessian_trace", "scalar", "loss units per parameter unit squared", "trace of the Hessian"),
        Quantity("hessian_trace_se", "scalar", "loss units per parameter unit squared",
                 "standard error of the trace", UNCOMPARED),
        Quantity("relative_flatness", "scalar", "loss units", "relative flatness (less is flatter)", LOG_RATIO),
        Quantity("relative_flatness_se", "scalar", "loss units", "standard error of relative flatness", UNCOMPARED),
        Quantity("loss_rise", "scalar", "loss units", "rise of the loss"),
        Quantity("loss_rise_se", "scalar", "loss units", "standard error of the rise of the loss", UNCOMPARED),
        Quantity("sam_sharpness", "scalar", "loss units", "SAM sharpness"),
        # robustness
        Quantity("noisy_loss", "scalar", "loss units", "loss under noise"),
        Quantity("noisy_loss_se", "scalar", "loss units", "standard error of the loss under noise", UNCOMPARED),
        Quantity("noisy_accuracy", "scalar", "1", "accuracy under noise"),
        Quantity("noisy_accuracy_se", "scalar", "1", "standard error of the accuracy under noise", UNCOMPARED),
        Quantity("multiple_correlation", "scalar", "1", r"adjusted $R^2$ of a node on the others, mean"),
        Quantity("multiple_correlation_null", "scalar", "1", r"mean $R^2$ by chance, before adjustment", UNCOMPARED),
        Quantity("dead_share", "scalar", "1", "share of dead nodes"),
        Quantity("always_saturated_share", "scalar", "1", "share of nodes that are always saturated"),
        Quantity("update_to_weight", "scalar", "1", r"update to weight, $|w_t - w_{t-1}|/|w_{t-1}|$", LOG_RATIO),
        Quantity("distance_from_start", "scalar", "1", r"distance from the start, $|w_t - w_0|/|w_0|$", LOG_RATIO),
    )
}  # fmt: skip
"""Quantities that dropdiag itself records; what ``step()`` is given is stored under its own name."""


MEASURED: Final[Mapping[str, tuple[str, ...]]] = {
    "masks_by_weights": ("flow_masks_off", "flow_masks_on"),
    "ensemble": (
        "ensemble_kl_geometric", "ensemble_kl_arithmetic", "ensemble_kl_geometric_bias", "ensemble_kl_arithmetic_bias",
        *(f"{score}_{output}" for score in ("nll", "accuracy", "calibration_error")
          for output in ("weight_scaled", "geometric", "arithmetic")),
        "predictive_entropy", "mutual_information", "regulariser", "regulariser_se", "ensemble_masks",
    ),
    "flatness": ("hessian_eigenvalue", "hessian_trace", "hessian_trace_se", "loss_rise", "loss_rise_se",
                 "sam_sharpness", "relative_flatness", "relative_flatness_se"),
    "robustness": ("noisy_loss", "noisy_loss_se", "noisy_accuracy", "noisy_accuracy_se"),
    "ablation": ("ablation_interaction", "ablation_interaction_null", "ablation_interaction_null_sd", "ablated_loss",
                 "ablated_loss_se", "ablated_accuracy", "ablated_accuracy_se"),
    "gradient_direction": tuple(f"gradient_{score}_masks_{masks}" for masks in ("on", "off")
                                for score in ("direction_variance", "direction_error", "noise_scale")),
}  # fmt: skip
"""Active measurement -> its quantities and families, which a run holds in a phase of that name."""
