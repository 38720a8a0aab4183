import { readSafetensors, toFloat32, writeSafetensors } from '@peftjs/safetensors';
import { CheckpointError } from '../errors.js';
import { floats, hostTensor, type HostTensors } from '../tensors.js';

/** What PEFT puts before every module path, and before the name of what belongs to no module. */
const OF_MODULE = 'base_model.model.';
const OF_ADAPTER = 'base_model.';

/** Longest axis of a tensor that has no numbers. */
const MAX_EMPTY_AXIS = 1 << 20;

/** Tensors by module path and suffix, or by a name without a dot, under PEFT's names. */
export function withPrefix(tensors: HostTensors): HostTensors {
  return Object.fromEntries(
    Object.entries(tensors).map(([name, tensor]) => [(name.includes('.') ? OF_MODULE : OF_ADAPTER) + name, tensor]),
  );
}

/** Tensors under PEFT's names, those of old versions included, by module path and suffix or by a name without a dot. */
export function withoutPrefix(tensors: HostTensors): HostTensors {
  return Object.fromEntries(
    Object.entries(tensors).map(([key, tensor]) => {
      const prefix = [OF_MODULE, OF_ADAPTER].find((each) => key.startsWith(each)) ?? '';
      const name = key.slice(prefix.length);
      return [name.replace('.modules_to_save.', '.'), tensor];
    }),
  );
}

/** A safetensors file of float32 tensors. @throws CheckpointError for a value that is not finite. */
export function encodeTensors(tensors: HostTensors): Uint8Array {
  const entries = Object.entries(tensors).map(([key, tensor]) => {
    const data = floats(tensor, key);
    assertFinite(key, data);
    return [key, { dtype: 'F32', shape: tensor.shape, data }] as const;
  });
  return writeSafetensors(new Map(entries), { format: 'pt' });
}

/** The tensors of a safetensors file as float32. @throws CheckpointError when it is broken, or a value is not finite. */
export function decodeTensors(bytes: Uint8Array, path: string): HostTensors {
  const entries = [...parsed(bytes, path)].map(([key, tensor]) => {
    assertSmallIfEmpty(key, tensor.shape, path);
    const data = toFloat32(tensor);
    assertFinite(key, data, `${path}: `);
    return [key, hostTensor(data, tensor.shape)] as const;
  });
  return Object.fromEntries(entries);
}

function assertFinite(key: string, data: Float32Array, where = ''): void {
  const at = data.findIndex((value) => !Number.isFinite(value));
  if (at < 0) return;
  throw new CheckpointError(
    `${where}'${key}' holds ${data[at] as number}: the adapter is of no use; train it again, at a lower learning rate`,
    key,
  );
}

/** A shape like [10 ** 15, 0] costs no byte of a file, and yet a loop over its rows does not end. */
function assertSmallIfEmpty(key: string, shape: readonly number[], path: string): void {
  const longest = Math.max(...shape);
  if (longest <= MAX_EMPTY_AXIS || !shape.includes(0)) return;
  throw new CheckpointError(
    `${path}: '${key}' has shape [${shape.join(', ')}]; a tensor without numbers may be ${MAX_EMPTY_AXIS} long at most`,
    key,
  );
}

function parsed(bytes: Uint8Array, path: string): ReturnType<typeof readSafetensors> {
  try {
    return readSafetensors(bytes);
  } catch (cause) {
    throw new CheckpointError(`${path}: ${cause instanceof Error ? cause.message : String(cause)}`, path, cause);
  }
}
