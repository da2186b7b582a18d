"""The manifests of config/kubernetes against the published schemas. Run by scripts/deployment."""

import copy
import pathlib
import sys

import kubernetes_validate
import yaml
from cloudcoil.models.keda.v1alpha1 import ScaledObject

# The oldest with everything that is used here, and the newest whose schemas the library has.
VERSIONS = ["1.29", "1.37"]


def against_kubernetes(document):
    """What is wrong with it, in any of the versions."""
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            return f"{version}: {'.'.join(map(str, error.path))}: {error.message}"
    return None


def against_keda(document):
    """The types ignore a key that they do not know, so it is missed afterwards."""
    try:
        kept = ScaledObject.model_validate(document).model_dump(by_alias=True, exclude_unset=True)
    except ValueError as error:
        return str(error)
    return None if kept == document else "a key that KEDA does not know, or a value of another type"


def check(document):
    return against_keda(document) if document["apiVersion"].startswith("keda.sh/") else against_kubernetes(document)


def mappings(value, path=()):
    """Every mapping below it, except those whose keys anybody may choose."""
    if isinstance(value, dict):
        if path and path[-1] not in ("labels", "annotations", "matchLabels", "data", "requests", "limits"):
            yield path
        for key, below in value.items():
            if not (path[-1:] == ("triggers",) or key == "metadata" and "triggers" in path):
                yield from mappings(below, (*path, key))
    elif isinstance(value, list):
        for number, below in enumerate(value):
            yield from mappings(below, (*path, number))


def with_a_wrong_key(document, path):
    wrong = copy.deepcopy(document)
    place = wrong
    for key in path:
        place = place[key]
    place["replica"] = 1
    return wrong


def main(folder):
    problems, documents, refused = [], 0, 0
    listed = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    files = sorted(file for file in folder.glob("*.yaml") if file.name != "kustomization.yaml")
    for name in set(listed) ^ {file.name for file in files if file.name != "keda.yaml"}:
        problems.append(f"kustomization.yaml and the folder differ: {name}")
    for file in files:
        for document in yaml.safe_load_all(file.read_text()):
            documents += 1
            name = f"{file.name}: {document['kind']} {document['metadata']['name']}"
            if problem := check(document):
                problems.append(f"{name}: {problem}")
            # A check that cannot fail shows nothing.
            for path in mappings(document):
                if check(with_a_wrong_key(document, path)):
                    refused += 1
                else:
                    problems.append(f"{name}: a wrong key in {'.'.join(map(str, path))} would not be found")
    print(f"{documents} resources, Kubernetes {' and '.join(VERSIONS)}; {refused} with a wrong key were refused")
    print("\n".join(problems), end="\n" if problems else "")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1])))
