import { bytesSource, openSafetensors, toFloat32, writeSafetensors } from '@peftjs/safetensors';
import { CheckpointError } from '../errors.js';
import { NUMERICS } from '../numerics.js';
import type { AdapterLayers, ControllerState } from '../contracts/method.js';
import type { Named } from '../settings.js';
import { hostTensor, type HostTensor, type HostTensors } from '../tensors.js';

/** An adapter as it stood after a step. */
export interface Checkpoint {
  readonly step: number;
  readonly layers: AdapterLayers;
  readonly values: HostTensors;
  /** Metrics on the selection data; empty without any. */
  readonly metrics: Readonly<Record<string, number>>;
  readonly storedParameters: number;
  readonly ranks: Readonly<Record<string, number>>;
}

/** A training run between two steps: with the same data and options, `resume` goes on from it to the same end. */
export interface TrainingSnapshot {
  readonly step: number;
  /** Steps before the optimizer's first: above 0 where a controller has let it begin anew. */
  readonly optimizerStart: number;
  /** What the run was given, by name and settings: it resumes with the same alone. */
  readonly training: Readonly<Record<'loss' | 'optimizer' | 'schedule', Named>>;
  readonly adapter: HostTensors;
  /** The optimizer's slots, each by the keys of the trained tensors. */
  readonly slots: Readonly<Record<string, HostTensors>>;
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

const FORMAT = 'peftjs-training-2';

/** A snapshot as one safetensors file; `metadata` stands in its header, beside what is the snapshot's. */
export function writeSnapshot(
  { adapter, slots, selected, ...progress }: TrainingSnapshot,
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array {
  const { values = {}, ...judged } = selected ?? {};
  const ofSlots = Object.entries(slots).map(([slot, tensors]) => [`slots/${slot}`, tensors] as const);
  const groups = Object.fromEntries([['adapter', adapter], ['selected', values], ...ofSlots]);
  const tensors = Object.entries(groups).flatMap(([group, members]) =>
    Object.entries(members).map(
      ([name, { shape, data }]) => [`${group}/${name}`, { dtype: 'F32', shape, data: data as Float32Array }] as const,
    ),
  );
  const run = JSON.stringify({ ...progress, slots: Object.keys(slots), selected: selected && judged });
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
    if (numerics !== String(NUMERICS)) {
      throw new CheckpointError(`its numerics are ${numerics}, expected ${NUMERICS}`, path);
    }
    if (format !== FORMAT || run === undefined) {
      throw new CheckpointError(`expected a file of format ${FORMAT}, got ${format ?? 'none'}`, path);
    }
    const tensors = new Map<string, HostTensor>();
    for (const name of file.names) {
      const tensor = await file.read(name);
      tensors.set(name, hostTensor(toFloat32(tensor), tensor.shape));
    }
    const group = (name: string): HostTensors => {
      const own = [...tensors].filter(([key]) => key.startsWith(`${name}/`));
      return Object.fromEntries(own.map(([key, tensor]) => [key.slice(name.length + 1), tensor]));
    };
    const { selected, slots, ...progress } = JSON.parse(run) as Written;
    return {
      ...progress,
      adapter: group('adapter'),
      slots: Object.fromEntries(slots.map((slot) => [slot, group(`slots/${slot}`)])),
      selected: selected && { ...selected, values: group('selected') },
    };
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new CheckpointError(`${path} cannot be resumed: ${reason}`, path, cause);
  }
}

/** What the header holds of a run. */
type Written = Omit<TrainingSnapshot, 'adapter' | 'slots' | 'selected'> & {
  readonly slots: readonly string[];
  readonly selected: Omit<Checkpoint, 'layers' | 'values'> | null;
};
