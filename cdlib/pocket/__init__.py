"""The pocket model: the recipe that trained it, its weights, and the gates they were held to.

    python -m cdlib.pocket.train        # the model; goes on from its last checkpoint
    python -m cdlib.pocket.classifier   # the judge of its samples
    python -m cdlib.pocket.gates        # what the shipped weights reach
    python -m cdlib.pocket.card         # the model card, from what the other three left

A chapter needs the weights (`cdlib.load_model("pocket")`), the card and `sampling.draw`, no more.
"""
