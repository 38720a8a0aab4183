import type { Model } from '@peftjs/core';
import { sizeOf, type HostTensor, type HostTensors, type Site, type SiteRole } from '@peftjs/core/method';
import { layerNormSite, linearSite } from '@peftjs/core/model';
import { expect } from 'vitest';

/** A module of a transformer layer: its name, its role, and its input and output widths. */
type Row = readonly [name: string, role: SiteRole, inFeatures: number, outFeatures: number];

/** BERT's layers. */
export function bertShapes(name: string, layers: number, hidden: number, inner: number): Model {
  const rows: readonly Row[] = [
    ['attention.self.query', 'attention.query', hidden, hidden],
    ['attention.self.key', 'attention.key', hidden, hidden],
    ['attention.self.value', 'attention.value', hidden, hidden],
    ['attention.output.dense', 'attention.output', hidden, hidden],
    ['intermediate.dense', 'ffn.in', hidden, inner],
    ['output.dense', 'ffn.out', inner, hidden],
  ];
  return shapesOf(name, layers, rows, ['query', 'value']);
}

/** Llama's layers: keys and values are narrower than queries. */
export function llamaShapes(name: string, layers: number, hidden: number, keys: number, inner: number): Model {
  const rows: readonly Row[] = [
    ['self_attn.q_proj', 'attention.query', hidden, hidden],
    ['self_attn.k_proj', 'attention.key', hidden, keys],
    ['self_attn.v_proj', 'attention.value', hidden, keys],
    ['self_attn.o_proj', 'attention.output', hidden, hidden],
    ['mlp.gate_proj', 'ffn.in', hidden, inner],
    ['mlp.up_proj', 'ffn.in', hidden, inner],
    ['mlp.down_proj', 'ffn.out', inner, hidden],
  ];
  return shapesOf(name, layers, rows, ['q_proj', 'v_proj']);
}

/** A model that only has paths, roles and shapes. */
export function shapesOnly({ name, sites, head, defaultTargetModules }: Omit<Model, 'weights' | 'forward'>): Model {
  return {
    name,
    fingerprint: 'shapes',
    sites,
    weights: Object.assign({}, ...sites.map(moduleShapes)) as HostTensors,
    head,
    defaultTargetModules,
    lookups: [],
    forward: () => expect.fail('there are no weights'),
  };
}

function shapesOf(name: string, layers: number, rows: readonly Row[], defaultTargetModules: readonly string[]): Model {
  const sites = Array.from({ length: layers }, (_, layer): Site[] => [
    ...rows.map(([module, role, inFeatures, outFeatures]) =>
      linearSite(`layer.${layer}.${module}`, inFeatures, outFeatures, { role, layer }),
    ),
    layerNormSite(`layer.${layer}.norm`, rows[0]?.[2] ?? 0, { layer }),
  ]).flat();
  return shapesOnly({ name, fingerprint: name, sites, head: [], defaultTargetModules, lookups: [] });
}

function moduleShapes({ path, kind, inFeatures, outFeatures, hasBias }: Site): HostTensors {
  const shape = (...sizes: number[]): HostTensor => ({ dtype: 'float32', shape: sizes, data: zeros(sizeOf(sizes)) });
  const weight = kind === 'layerNorm' ? shape(outFeatures) : shape(inFeatures, outFeatures);
  return { [`${path}.weight`]: weight, ...(hasBias && { [`${path}.bias`]: shape(outFeatures) }) };
}

let nothing = new Float32Array(0);

/** The first `size` zeros of one shared array. */
function zeros(size: number): Float32Array {
  if (size > nothing.length) nothing = new Float32Array(size);
  return nothing.subarray(0, size);
}
