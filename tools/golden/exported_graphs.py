"""What the scripts that export graphs have in common. They import it after the libraries that this folder's names hide."""

import gzip

SCOPES = "pkg.torch.onnx.name_scopes"


def small(graph):
    """Removes what no reader needs."""
    del graph.graph.value_info[:]
    del graph.graph.metadata_props[:], graph.metadata_props[:]
    for node in graph.graph.node:
        kept = [(entry.key, entry.value) for entry in node.metadata_props if entry.key == SCOPES]
        node.doc_string = ""
        del node.metadata_props[:]
        for key, value in kept:
            node.metadata_props.add(key=key, value=value)
    return graph


def write(path, content):
    """Writes compressed bytes to `path`, with .gz added, the same at every run."""
    with gzip.GzipFile(f"{path}.gz", "wb", mtime=0) as file:
        file.write(content)
