"""Chapter 3.2 of the guide: its `models.config`, with what is commented out and without."""

CONFIG = """# models.config
model_config_list {{
  config {{
    name: 'your_model'
    base_path: '{models}/your_model/'
    model_platform: 'tensorflow'
{your_model}
  }}
  config {{
    name: "mnist",
    base_path: "{models}/mnist",
    model_platform: "tensorflow",
    model_version_policy: {{
      specific: {{
        versions: 1,
        versions: 2
      }}
    }}
  }}
{end}
# model_version_policy chooses the versions
"""


def policy(versions, labels):
    lines = ["model_version_policy {", "  specific {"]
    lines += [f"    versions: {version}" for version in versions]
    lines += ["  }", "}"]
    for label, version in labels.items():
        lines += ["version_labels {", f"  key: '{label}'", f"  value: {version}", "}"]
    return lines


def as_printed(models, end="}"):
    """Versions and labels of the first model are commented out."""
    lines = policy([42, 43], {"stable": 43, "canary": 43})
    return CONFIG.format(
        models=models, end=end, your_model="\n".join(f"    # {line}" for line in lines)
    )


def labelled(models, versions, **labels):
    """The same file, with the comments taken away."""
    lines = policy(versions, labels)
    return CONFIG.format(
        models=models, end="}", your_model="\n".join(f"    {line}" for line in lines)
    )
