import {
  patternValue,
  placeColumns,
  placeRows,
  readLoraFile,
  scaled,
  tensorAt,
  type AdapterFile,
  type HostTensors,
} from '@peftjs/core';
import { parseAdaloraConfig, type AdaloraConfig } from './config.js';
import { initialScores } from './scores.js';
import { maskOf } from './selection.js';

/**
 * Reads PEFT's LORA as doublets. The greatest rank becomes `initR`: what the other modules have less is zeros, masked. All
 * modules share the first one's scaling; where a module's own differs, B makes up for it.
 * @throws CheckpointError naming the tensor or field at fault.
 */
export function readDoublets(file: AdapterFile): { config: Partial<AdaloraConfig>; values: HostTensors } {
  const { targetModules, values: read, ...lora } = readLoraFile(file);
  const rankOf = (path: string): number => tensorAt(read, `${path}.loraA`).shape[1] as number;
  const scalingOf = (path: string): number => (patternValue(lora.alphaPattern, path) ?? lora.loraAlpha) / rankOf(path);
  const scaling = scalingOf(targetModules[0] as string);
  const initR = Math.max(...targetModules.map(rankOf));
  const config = { parametrization: 'lora', initR, targetR: initR, loraAlpha: scaling * initR } as const;
  const parsed = parseAdaloraConfig(config);
  const values: HostTensors = {};
  for (const path of targetModules) {
    const loraA = tensorAt(read, `${path}.loraA`); // [in, k]
    const loraB = scaled(tensorAt(read, `${path}.loraB`), scalingOf(path) / scaling); // [k, out]
    const ranks = Array.from({ length: rankOf(path) }, (_, rank) => rank);
    const features = { inFeatures: loraA.shape[0] as number, outFeatures: loraB.shape[1] as number };
    for (const [name, { initial }] of Object.entries(initialScores(features, parsed, initR))) {
      values[`${path}.${name}`] = initial;
    }
    values[`${path}.loraA`] = placeColumns(loraA, ranks, initR); // [in, k] -> [in, r]
    values[`${path}.loraB`] = placeRows(loraB, ranks, initR); // [k, out] -> [r, out]
    values[`${path}.mask`] = maskOf(ranks, initR);
  }
  return { config: { ...config, targetModules }, values };
}
