import { readSafetensors, toFloat32, writeSafetensors } from '@peftjs/safetensors';
import { CheckpointError } from '../errors.js';
import { floats, hostTensor, type HostTensors } from '../tensors.js';

/** What PEFT puts before every module path, and before the name of what belongs to no module. */
const OF_MODULE = 'base_model.model.';
const OF_ADAPTER = 'base_model.';

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

/** A safetensors file of float32 tensors. */
export function encodeTensors(tensors: HostTensors): Uint8Array {
  const entries = Object.entries(tensors).map(
    ([key, tensor]) => [key, { dtype: 'F32', shape: tensor.shape, data: floats(tensor, key) }] as const,
  );
  return writeSafetensors(new Map(entries), { format: 'pt' });
}

/** The tensors of a safetensors file as float32. @throws CheckpointError when it is broken. */
export function decodeTensors(bytes: Uint8Array, path: string): HostTensors {
  const tensors: HostTensors = {};
  for (const [key, tensor] of parsed(bytes, path)) tensors[key] = hostTensor(toFloat32(tensor), tensor.shape);
  return tensors;
}

function parsed(bytes: Uint8Array, path: string): ReturnType<typeof readSafetensors> {
  try {
    return readSafetensors(bytes);
  } catch (cause) {
    throw new CheckpointError(`${path}: ${cause instanceof Error ? cause.message : String(cause)}`, path, cause);
  }
}
