import { allocatedRanks, rankedPaths } from '../ranks/changes.js';
import type { AdapterContents, AdapterFile, PeftMethod } from '../contracts/method.js';
import type { Site } from '../contracts/site.js';
import { CheckpointError } from '../errors.js';
import type { RankConfig, RankMethod } from '../ranks/definition.js';
import { hostFilled, mapValues, tensorAt, tensorsAt, type HostTensor, type HostTensors } from '../tensors.js';
import { loraFile, loraRanks, readLoraFile, scaledRank, vectorOf } from './lora-file.js';
import { fieldsOf, optionsIn, writtenTensors } from './method-file.js';

/** The parts of a method that its files depend on. */
type Format<C extends RankConfig> = {
  readonly [K in 'options' | 'fromLora' | 'unsaved' | 'file']: RankMethod<C>[K];
};

/** Returns s of a module with its initial rank. */
type ScalingAt<C> = (site: Site, config: C) => number;

/**
 * Returns the file functions of a method of low rank. A pruned adapter, and every adapter of a method without gates, is
 * PEFT's LORA, without the ranks of zero gates. An adapter to be trained further holds A, B and gates unchanged, and
 * the method's own options by their names in snake case. Gates of the LORA format are read as ones.
 */
export function rankFiles<C extends RankConfig>(
  { options, fromLora = (lora) => lora as Partial<C>, unsaved = () => ({}), file: format }: Format<C>,
  scalingAt: ScalingAt<C>,
): Pick<PeftMethod<C>, 'peftTypes' | 'toFile' | 'fromFile'> {
  const own = Object.keys(options) as (keyof C & string)[];
  const fields = Object.fromEntries(format ? own.map((name) => [snakeCase(name), name]) : []);
  return {
    peftTypes: [...(format ? [format.peftType] : []), 'LORA'],
    toFile: (adapter, { pruned }) =>
      pruned || !format || rankedPaths(adapter.layers).length === 0
        ? loraFile(adapter)
        : unprunedFile(adapter, format, fields, scalingAt),
    fromFile({ config, tensors, ...file }) {
      const suffix = format && config.peft_type === format.peftType ? format.gate : undefined;
      const factors = Object.entries(tensors).filter(([key]) => suffix === undefined || !key.endsWith(suffix));
      const { values, ...lora } = readLoraFile({ ...file, config, tensors: Object.fromEntries(factors) });
      for (const path of lora.targetModules) {
        const [loraA, loraB] = [tensorAt(values, `${path}.loraA`), tensorAt(values, `${path}.loraB`)];
        const r = loraA.shape[1] as number;
        const gate = suffix === undefined ? hostFilled([r], 1) : readGate(tensors, path, suffix, r);
        const others = { ...(format && { gate }), ...unsaved({ loraA, loraB, gate }) };
        for (const [name, tensor] of Object.entries(others)) values[`${path}.${name}`] = tensor;
      }
      return { config: { ...fromLora(lora), ...optionsIn<C>(config, fields) }, values };
    },
  };
}

function snakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

function unprunedFile<C extends RankConfig>(
  adapter: AdapterContents<C>,
  { peftType, gate, config: written = ({ config }) => config }: NonNullable<RankMethod<C>['file']>,
  fields: Readonly<Record<string, keyof C & string>>,
  scalingAt: ScalingAt<C>,
): AdapterFile {
  const { layers } = adapter;
  const config = written(adapter);
  const tensors = writtenTensors(adapter, {
    loraA: ['.lora_A.weight', 'r', 'in'],
    loraB: ['.lora_B.weight', 'out', 'r'],
    gate: [gate, 'r'],
  });
  // A file's scaling is alpha / rank, so alpha shrinks with removed ranks.
  const modules = mapValues(tensorsAt(layers, ...rankedPaths(layers)), (layer) =>
    scaledRank(allocatedRanks(layer), scalingAt(layer.site, config)),
  );
  const ranks = loraRanks(modules, layers, { r: config.r, alpha: config.loraAlpha });
  return { config: { peft_type: peftType, ...ranks, ...fieldsOf(config, fields) }, tensors };
}

function readGate(tensors: HostTensors, path: string, suffix: string, r: number): HostTensor {
  const key = path + suffix;
  const gate = vectorOf(tensors, key);
  if (gate.shape[0] === r) return gate;
  throw new CheckpointError(`'${key}' has shape [${gate.shape.join(', ')}]; '${path}.lora_A.weight' needs [${r}]`, key);
}
