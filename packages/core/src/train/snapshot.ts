import { bytesSource, openSafetensors, toFloat32, writeSafetensors } from '@peftjs/safetensors';
import { CheckpointError } from '../errors.js';
import { NUMERICS } from '../numerics.js';
import type { ControllerState } from '../contracts/method.js';
import { hostTensor, type HostTensor, type HostTensors } from '../tensors.js';
import { flatten, unflatten } from './groups.js';
import type { Checkpoint } from './checkpoint.js';

/** A training run between two steps: with the same data and options, `resume` goes on from it to the same end. */
export interface TrainingSnapshot {
  readonly step: number;
  /** Steps before the optimizer's first: above 0 where a controller has let it begin anew. */
  readonly optimizerStart: number;
  readonly adapter: HostTensors;
  readonly moment1: HostTensors;
  readonly moment2: HostTensors;
  readonly controller: ControllerState | null;
  /** The best checkpoint so far; its layers are the run's. */
  readonly selected: Omit<Checkpoint, 'layers'> | null;
  /** Stored parameters of the adapter, as last counted. */
  readonly stored: number;
  /** Sum over the steps of the adapter's stored parameters, for their mean over time. */
  readonly storedSum: number;
  /** Milliseconds spent compiling so far. */
  readonly compileMs: number;
}

const FORMAT = 'peftjs-training-1';
const GROUPS = ['adapter', 'moment1', 'moment2', 'selected'] as const;

/** A snapshot as one safetensors file; `metadata` stands in its header, beside what is the snapshot's. */
export function writeSnapshot(
  { adapter, moment1, moment2, selected, ...progress }: TrainingSnapshot,
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array {
  const { values = {}, ...judged } = selected ?? {};
  const tensors = Object.entries(flatten<HostTensor>({ adapter, moment1, moment2, selected: values })).map(
    ([name, { shape, data }]) => [name, { dtype: 'F32', shape, data: data as Float32Array }] as const,
  );
  const run = JSON.stringify({ ...progress, selected: selected && judged });
  return writeSafetensors(new Map(tensors), { ...metadata, format: FORMAT, numerics: String(NUMERICS), run });
}

/**
 * Reads what `writeSnapshot` wrote.
 * @throws CheckpointError when it is broken, something else, or of other `NUMERICS`: the rest of the run would not fit its beginning.
 */
export async function readSnapshot(bytes: Uint8Array, path = 'the snapshot'): Promise<TrainingSnapshot> {
  try {
    const file = await openSafetensors(bytesSource(bytes));
    const { format, numerics = '0', run } = file.metadata;
    if (format !== FORMAT || run === undefined) {
      throw new CheckpointError(`expected a file of format ${FORMAT}, got ${format ?? 'none'}`, path);
    }
    if (numerics !== String(NUMERICS)) {
      throw new CheckpointError(`its numerics are ${numerics}, expected ${NUMERICS}`, path);
    }
    const flat: HostTensors = {};
    for (const name of file.names) {
      const tensor = await file.read(name);
      flat[name] = hostTensor(toFloat32(tensor), tensor.shape);
    }
    const { selected: values, ...tensors } = unflatten(flat, GROUPS);
    const { selected, ...progress } = JSON.parse(run) as Omit<TrainingSnapshot, 'adapter' | 'moment1' | 'moment2'>;
    return { ...progress, ...tensors, selected: selected && { ...selected, values } };
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new CheckpointError(`${path} cannot be resumed: ${reason}`, path, cause);
  }
}
