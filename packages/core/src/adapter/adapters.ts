import { warnOnce } from '../config.js';
import { ConfigError } from '../errors.js';
import type { ConfiguredMethod } from '../contracts/method.js';
import type { Model } from '../contracts/model.js';
import { actingParts } from './acting.js';
import { newAdapter, type AttachOptions } from './attach.js';
import { unmergeAdapter } from './merge.js';
import { adapterNamed, type Adapter, type PeftModel } from './peft-model.js';
import type { TargetConfig } from './targets.js';

/*
 * Several adapters on one model, with PEFT's verbs. Each is refused before anything has changed.
 */

/**
 * Changes `peft` in place: one more adapter stands beside those that are there. It does not act until `setAdapter` says so.
 * @throws ConfigError when the name is taken or no folder name.
 * @throws TargetModuleError when the configuration matches no module.
 */
export function addAdapter<C extends TargetConfig>(
  peft: PeftModel,
  configured: ConfiguredMethod<C>,
  options: AttachOptions & Required<Pick<AttachOptions, 'adapterName'>>,
): void {
  insertAdapter(peft, newAdapter(peft.model, configured, { seed: peft.seed, ...options }));
}

/** Changes `peft` in place: an adapter that is made already stands beside the others. @throws ConfigError when its name is taken. */
export function insertAdapter(peft: PeftModel, adapter: Adapter): void {
  assertFreeName(peft, adapter.name);
  peft.adapters.set(adapter.name, adapter);
}

/** @throws ConfigError when an adapter has that name. */
export function assertFreeName({ adapters }: Pick<PeftModel, 'adapters'>, name: string): void {
  if (!adapters.has(name)) return;
  throw new ConfigError(`there is an adapter '${name}' already: delete it first or take another name`, 'adapterName');
}

/**
 * Changes `peft` in place: these adapters act, in this order, and no others; the first of them is the one that is trained, and whose head is
 * used. What is merged is taken out of the weights, with a warning.
 * @throws ConfigError for an unknown name, or when two of them train the same module whole or its bias.
 */
export function setAdapter(peft: PeftModel, names: string | readonly string[]): void {
  const active = typeof names === 'string' ? [names] : [...new Set(names)];
  for (const name of active) adapterNamed(peft, name);
  actingParts({ ...peft, active, merged: [], mergedWeights: {} });
  if (peft.merged.length > 0) {
    warnOnce(`setAdapter takes the merged adapters out of the weights: ${peft.merged.join(', ')}`);
    unmergeAdapter(peft);
  }
  peft.active = active;
}

/**
 * Changes `peft` in place: an adapter is taken off. Where it was the last active one, the first of those left acts in its place, with a
 * warning; without any the model is the frozen one.
 * @throws ConfigError for an unknown name, or while it is merged.
 */
export function deleteAdapter(peft: PeftModel, name: string): void {
  adapterNamed(peft, name);
  if (peft.merged.includes(name)) {
    throw new ConfigError(
      `adapter '${name}' is merged into the weights: unmerge it before you delete it`,
      'adapterName',
    );
  }
  peft.adapters.delete(name);
  const active = peft.active.filter((each) => each !== name);
  const [next] = peft.adapters.keys();
  if (active.length > 0 || peft.active.length === 0 || next === undefined) peft.active = active;
  else {
    warnOnce(`adapter '${name}', which is deleted, was active; '${next}' is now`);
    peft.active = [next];
  }
}

/**
 * Changes `peft` in place while `scope` runs: no adapter acts, merged ones included; afterwards everything is as it was before.
 * @returns what `scope` returns
 */
export async function disableAdapter<T>(peft: PeftModel, scope: () => T | Promise<T>): Promise<T> {
  const before = peft.enabled;
  peft.enabled = false;
  try {
    return await scope();
  } finally {
    peft.enabled = before;
  }
}

/** Returns the model without its adapters, as it was before `attach`. */
export function unload({ model }: PeftModel): Model {
  return model;
}
