import { attach, countParameters, type Model } from '@peftjs/core';
import type { ConfiguredMethod, HostTensor, HostTensors, Site, TargetConfig } from '@peftjs/core/method';
import { embeddingSite, layerNormSite, linearSite, type ParameterCount } from '@peftjs/core/model';
import { expect } from 'vitest';

const HIDDEN = 768;
const INNER = 3072;

/** The modules of DeBERTaV3-base by their paths in transformers, with a head for two classes. */
const sites: readonly Site[] = [
  embeddingSite('deberta.embeddings.word_embeddings', 128_100, HIDDEN),
  layerNormSite('deberta.embeddings.LayerNorm', HIDDEN),
  embeddingSite('deberta.encoder.rel_embeddings', 512, HIDDEN),
  layerNormSite('deberta.encoder.LayerNorm', HIDDEN),
  ...Array.from({ length: 12 }, (_, layer) => layerSites(layer)).flat(),
  linearSite('classifier', HIDDEN, 2, { role: 'head' }),
];

function layerSites(layer: number): Site[] {
  const path = `deberta.encoder.layer.${layer}`;
  return [
    linearSite(`${path}.attention.self.query_proj`, HIDDEN, HIDDEN, { role: 'attention.query', layer }),
    linearSite(`${path}.attention.self.key_proj`, HIDDEN, HIDDEN, { role: 'attention.key', layer }),
    linearSite(`${path}.attention.self.value_proj`, HIDDEN, HIDDEN, { role: 'attention.value', layer }),
    linearSite(`${path}.attention.output.dense`, HIDDEN, HIDDEN, { role: 'attention.output', layer }),
    layerNormSite(`${path}.attention.output.LayerNorm`, HIDDEN, { layer }),
    linearSite(`${path}.intermediate.dense`, HIDDEN, INNER, { role: 'ffn.in', layer }),
    linearSite(`${path}.output.dense`, INNER, HIDDEN, { role: 'ffn.out', layer }),
    layerNormSite(`${path}.output.LayerNorm`, HIDDEN, { layer }),
  ];
}

/** Returns a tensor that has a shape but no values. */
const shapeOnly = (...shape: number[]): HostTensor => ({ dtype: 'float32', shape, data: new Float32Array(0) });

function moduleShapes({ path, kind, inFeatures, outFeatures, hasBias }: Site): HostTensors {
  const weight = kind === 'layerNorm' ? shapeOnly(outFeatures) : shapeOnly(inFeatures, outFeatures);
  return { [`${path}.weight`]: weight, ...(hasBias && { [`${path}.bias`]: shapeOnly(outFeatures) }) };
}

/** DeBERTaV3-base without its 184 million parameters: only paths, roles and shapes. */
export const debertaV3Base: Model = {
  name: 'deberta-v3-base',
  fingerprint: 'shapes',
  sites,
  weights: Object.assign({}, ...sites.map(moduleShapes)) as HostTensors,
  head: ['classifier'],
  defaultTargetModules: ['query_proj', 'value_proj'],
  lookups: [],
  forward: () => expect.fail('there are no weights'),
};

/** Returns the numbers of parameters that a method trains and stores on DeBERTaV3-base. */
export function countOn<C extends TargetConfig>(method: ConfiguredMethod<C>): ParameterCount {
  return countParameters(attach(debertaV3Base, method));
}
