"""The slow oracle: the gradient of every example by autograd alone, and what follows from it by definition, float64."""

import numpy as np
import torch
import zoo


def per_parameter(model, loss_fn, inputs, targets):
    """g_i of every example by trainable parameter, {name: [N, *shape]}; zeros where the loss does not depend on it."""
    parameters = {name: each for name, each in model.named_parameters() if each.requires_grad}
    rows = []
    for i in range(len(zoo.leaves(targets)[0])):
        one = lambda values: zoo.nested(lambda each: each[i : i + 1], values)  # noqa: B023, E731
        loss = loss_fn(zoo.apply(model, one(inputs)), one(targets))[0]
        rows.append(torch.autograd.grad(loss, parameters.values(), allow_unused=True, materialize_grads=True))
    return {name: torch.stack(each).double() for name, each in zip(parameters, zip(*rows, strict=True), strict=True)}


def gradients(model, loss_fn, inputs, targets):
    """The same as rows, [N, P], trainable parameters in the model's order."""
    return flat(per_parameter(model, loss_fn, inputs, targets)).numpy()


def flat(by_parameter):
    """[N, P] of {name: [N, *shape]}."""
    return torch.cat([each.reshape(len(each), -1) for each in by_parameter.values()], dim=1)


def moments(variance, full):
    """The named moments from the variance of each coordinate of the estimate, [P], and the full gradient, [P]."""
    second = variance + full**2
    used = second > 0
    return {
        "trace_covariance": variance.sum(),
        "average_variance": variance.mean(),
        "normalized_variance": (variance[used] / second[used]).mean(),
        "noise_ratio": variance.sum() / second.sum(),
        "noise_to_signal": variance.sum() / (full**2).sum(),
        "mean_squared_norm": second.sum(),
        "bias_squared": 0.0,
        "mse": variance.sum(),
    }


def uniform(gradients, draws, replacement=True, control=0.0):
    """Mean of `draws` uniform draws of g_i - h_i, plus the mean of h_i."""
    examples = len(gradients)
    factor = 1.0 if replacement else (examples - draws) / (examples - 1)
    return moments(factor * (gradients - control).var(axis=0) / draws, gradients.mean(axis=0))


def stratified(gradients, assignments):
    """One draw a cluster with weight N_k / N, [Faghri20] Proposition 3.1."""
    parts = [gradients[assignments == k] for k in np.unique(assignments)]
    variance = sum(len(part) ** 2 * part.var(axis=0) for part in parts) / len(gradients) ** 2
    return moments(variance, gradients.mean(axis=0))
