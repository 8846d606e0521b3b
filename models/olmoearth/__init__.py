"""OlmoEarth: one token per resolution (v1), one per patch (v1.1, v1.2), or any scheme between."""
