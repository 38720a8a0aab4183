import { activeAdapter, adapterNamed, type Adapter, type PeftModel } from '../adapter/peft-model.js';
import { ConfigError } from '../errors.js';
import type { HostTensors } from '../tensors.js';
import { fittingValues } from './restore.js';
import { savedModuleTensors, splitSaved } from './saved-modules.js';
import { withoutPrefix, withPrefix } from './weights-file.js';

/** Which adapter is meant, and how small. */
export interface StateDictOptions {
  /** Default: the first active one. */
  readonly adapterName?: string;
}

/**
 * Returns an adapter's tensors in memory, named and oriented as adapter_model.safetensors has them (`base_model.model.<module>..`), the
 * head and `modulesToSave` among them. `pruned` says whether ranks that have vanished are left out, as `savePretrained` does. Default
 * false: what `setPeftModelStateDict` takes.
 * @throws ConfigError for an unknown adapter.
 */
export function getPeftModelStateDict(
  peft: PeftModel,
  { pruned = false, ...options }: StateDictOptions & { readonly pruned?: boolean } = {},
): HostTensors {
  const adapter = adapterOf(peft, options);
  return withPrefix({ ...adapter.method.toFile(adapter, { pruned }).tensors, ...savedModuleTensors(adapter) });
}

/**
 * Changes `peft` in place: an adapter gets other values, a state dict of its own shapes. Modules trained whole that it does not hold keep theirs.
 * @throws ConfigError for an unknown adapter, or one that is merged.
 * @throws CheckpointError naming the tensor that is missing, unknown or of another shape; nothing has changed then.
 */
export function setPeftModelStateDict(peft: PeftModel, tensors: HostTensors, options: StateDictOptions = {}): void {
  const adapter = adapterOf(peft, options);
  assertNotMerged(peft, adapter.name);
  const { own, saved } = splitSaved(withoutPrefix(tensors), peft.model, Object.keys(adapter.saved));
  const { config } = adapter.method.toFile(adapter, { pruned: false });
  const read = adapter.method.fromFile({ config, tensors: own });
  const kept = Object.entries(adapter.values).filter(([key]) => isSaved(adapter, key));
  const values = fittingValues(adapter, { ...Object.fromEntries(kept), ...read.values, ...saved }, 'the state dict');
  peft.adapters.set(adapter.name, { ...adapter, values });
}

/** @throws ConfigError while an adapter is merged: its values are then in the weights too. */
export function assertNotMerged({ merged }: Pick<PeftModel, 'merged'>, name: string): void {
  if (!merged.includes(name)) return;
  throw new ConfigError(`adapter '${name}' is merged into the weights: unmerge it before you change it`, 'adapterName');
}

function adapterOf(peft: PeftModel, { adapterName }: StateDictOptions): Adapter {
  return adapterName === undefined ? activeAdapter(peft) : adapterNamed(peft, adapterName);
}

function isSaved({ saved }: Adapter, key: string): boolean {
  return Object.entries(saved).some(([path, { params }]) =>
    Object.keys(params).some((name) => key === `${path}.${name}`),
  );
}
