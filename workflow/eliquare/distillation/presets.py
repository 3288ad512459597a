"""Objectives from the literature, each with its source."""

# For each preset: where it is from, and its terms with their settings.
PRESETS = {
    "distilbert": (
        "Sanh et al. 2019 and its training script: KL on all positions, MLM and the cosine of the "
        "last hidden states, weights 5, 2 and 1, temperature 2",
        {"kl": {"weight": 5.0, "temperature": 2.0}, "cosine": 1.0, "mlm": 2.0},
    ),
    "electronics2023": (
        "Singh, De Clercq & Lefever 2023, Sections 3 and 4: DistilBERT's terms, weights 5, 1 and "
        "2, temperature 2",
        {"kl": {"weight": 5.0, "temperature": 2.0}, "cosine": 1.0, "mlm": 2.0},
    ),
    "coling2022": (
        "Singh & Lefever 2022: weights 5, 2 and 1; the temperature is not stated, and 2 is the one "
        "that electronics2023 states",
        {"kl": {"weight": 5.0, "temperature": 2.0}, "cosine": 1.0, "mlm": 2.0},
    ),
    "cruz2024": (
        "Cruz & Aji 2024, equation 1: KL(student || teacher) and MLM; weights and temperature are "
        "not stated, and 0.5 and 4 are those of the published main.py, whose KL goes the other way",
        {"kl": {"weight": 0.5, "direction": "reverse", "temperature": 4.0}, "mlm": 0.5},
    ),
    "cruz2024-code": (
        "the script behind Cruz & Aji 2024: mean squared errors of hidden states and attention "
        "scores, no KL and no MLM",
        {"hidden": 1.0, "attention": {"weight": 1.0, "of": "scores"}},
    ),
    "tinybert": (
        "Jiao et al. 2020, general distillation: mean squared errors of the embeddings, the hidden "
        "states of evenly spread layers, and their attention scores",
        {"hidden": 1.0, "attention": {"weight": 1.0, "of": "scores"}},
    ),
    "minilm": (
        "Wang et al. 2021 (MiniLMv2): query, key and value relations of the last layers, 48 "
        "relation heads",
        {"relations": {"weight": 1.0, "heads": 48}},
    ),
    "gurgurov2025": (
        "Gurgurov et al. 2025: half MLM, half mean squared error of the logits, from a teacher "
        "adapted to the language (a teacher whose source is `condition`)",
        {"mse": {"weight": 0.5}, "mlm": 0.5},
    ),
    "none": ("only the terms that are named", {}),
}
DEFAULT = "electronics2023"
