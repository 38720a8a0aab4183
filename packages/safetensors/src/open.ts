import { inFile, quote, SafetensorsError } from './errors.js';
import { headerLength, parseHeader, PREFIX_BYTES, type Header, type TensorPlace } from './header.js';
import { fileSource, readExactly, type ByteSource } from './source.js';
import { tensorOver, type StoredTensor, type TensorSpec } from './tensor.js';

/** An open file, or a model of several: its header is in memory, its tensors are read one at a time. */
export interface SafetensorsFile {
  /** Names of the tensors in the order of their bytes; of a model of several files, one file after the other. */
  readonly names: readonly string[];
  /** What the writer noted, e.g. `format`; of a model of several files, what all of them note. */
  readonly metadata: Readonly<Record<string, string>>;
  /** Shape and element type. @throws SafetensorsError when there is no such tensor. */
  spec(name: string): TensorSpec;
  /** Reads one tensor. @throws SafetensorsError when there is no such tensor, the file is closed or reading fails. */
  read(name: string): Promise<StoredTensor>;
  /** Gives the file back; may be called again. */
  close(): Promise<void>;
}

/**
 * Opens a file, by its path (in Node) or through a source, which is closed with it and when it cannot be opened. Only the
 * header is read.
 * @throws SafetensorsError naming the file, and the tensor or key at fault.
 */
export async function openSafetensors(from: string | ByteSource): Promise<SafetensorsFile> {
  return typeof from === 'string' ? openSource(await fileSource(from), from) : openSource(from);
}

/** Opens a source; `label` is what messages call it. */
export async function openSource(source: ByteSource, label?: string): Promise<SafetensorsFile> {
  try {
    const { header, dataStart } = await readHeader(source);
    return lazyFile(source, header, dataStart, label);
  } catch (error) {
    await source.close?.();
    throw inFile(label, error);
  }
}

async function readHeader(source: ByteSource): Promise<{ header: Header; dataStart: number }> {
  const prefix = await readExactly(source, 0, Math.min(PREFIX_BYTES, source.size));
  const length = headerLength(prefix, source.size);
  const dataStart = PREFIX_BYTES + length;
  const json = await readExactly(source, PREFIX_BYTES, length);
  return { header: parseHeader(json, source.size - dataStart), dataStart };
}

function lazyFile(source: ByteSource, header: Header, dataStart: number, label: string | undefined): SafetensorsFile {
  let open = true;
  const placeOf = (name: string): TensorPlace => {
    const place = header.places.get(name);
    if (place) return place;
    throw inFile(label, new SafetensorsError(`there is no tensor ${quote(name)} among ${header.places.size}`, name));
  };
  return {
    names: [...header.places.keys()],
    metadata: header.metadata,
    spec(name) {
      const { dtype, shape } = placeOf(name);
      return { dtype, shape };
    },
    async read(name) {
      const place = placeOf(name);
      try {
        if (!open) throw new SafetensorsError(`cannot read tensor ${quote(name)}: the file is closed`, name);
        return tensorOver(place, await readExactly(source, dataStart + place.begin, place.end - place.begin));
      } catch (error) {
        throw inFile(label, error);
      }
    },
    async close() {
      if (!open) return;
      open = false;
      await source.close?.();
    },
  };
}
