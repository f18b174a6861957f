"""How well the answer can be guessed from the words of a prompt without their order."""

import re

import numpy as np
from scipy.optimize import minimize


def bag_of_words_accuracy(train, test):
    """Accuracy on ``test`` of a logistic regression on word counts, trained on ``train``.

    Both are lists of (text, whether the label is the first of two).
    """
    words = sorted({word for text, _ in train for word in _words(text)})
    index = {word: column for column, word in enumerate(words)}
    (x, y), (x_test, y_test) = (_matrix(rows, index) for rows in (train, test))
    sign = 2.0 * y - 1

    def loss(weights):
        margins = sign * (x @ weights)
        gradient = -(x.T @ (sign / (1 + np.exp(np.clip(margins, -500, 500))))) / len(y)
        penalty = 1e-3
        return (
            np.logaddexp(0, -margins).mean() + penalty * weights @ weights / 2,
            gradient + penalty * weights,
        )

    weights = minimize(loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B").x
    return float(np.mean((x_test @ weights > 0) == y_test))


def _words(text):
    return re.findall(r"\w+|[^\w\s]", text)


def _matrix(rows, index):
    counts = np.zeros((len(rows), len(index) + 1))
    counts[:, -1] = 1
    for row, (text, _) in zip(counts, rows, strict=True):
        for word in _words(text):
            if word in index:
                row[index[word]] += 1
    return counts, np.array([label for _, label in rows], bool)
