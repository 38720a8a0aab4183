import type { ConfiguredMethod } from '@peftjs/core/method';
import { adalora } from '@peftjs/adalora';
import { alora } from '@peftjs/alora';
import { bitfit, full, head, houlsby, ia3, pfeiffer } from '@peftjs/baselines';
import { bayesLora } from '@peftjs/bayes-lora';
import { dynamicDora } from '@peftjs/dynamic-dora';
import { elaLora } from '@peftjs/ela-lora';
import { gora } from '@peftjs/gora';
import { l1ra } from '@peftjs/l1ra';
import { lnTuning } from '@peftjs/ln-tuning';
import { loha } from '@peftjs/loha';
import { lokr } from '@peftjs/lokr';
import { lora, truncatedLora } from '@peftjs/lora';
import { oft } from '@peftjs/oft';
import { sora } from '@peftjs/sora';
import { vera } from '@peftjs/vera';
import { availableMethods, resolveMethod } from '../../packages/cli/src/registry/methods.js';

/** A method with options, and the family of methods with the same mathematics. The first of a family represents it. */
export interface ParityMethod {
  readonly name: string;
  readonly family: string;
  readonly configured: ConfiguredMethod;
}

/** Methods with the options that change what they compute. */
// oxfmt-ignore
const known: readonly ParityMethod[] = [
  { name: 'full', family: 'whole modules', configured: full() },
  { name: 'head', family: 'whole modules', configured: head() },
  { name: 'bitfit', family: 'biases', configured: bitfit() },
  { name: "bitfit of OpenDelta's biases", family: 'biases', configured: bitfit({ biases: 'opendelta' }) },
  { name: 'houlsby', family: 'bottlenecks', configured: houlsby({ bottleneck: 4 }) },
  { name: 'houlsby with relu', family: 'bottlenecks', configured: houlsby({ bottleneck: 4, nonLinearity: 'relu' }) },
  { name: 'pfeiffer with gelu', family: 'bottlenecks', configured: pfeiffer({ bottleneck: 4, nonLinearity: 'gelu' }) },
  { name: 'pfeiffer with swish', family: 'bottlenecks', configured: pfeiffer({ bottleneck: 4, nonLinearity: 'swish' }) },
  { name: 'ia3', family: 'scales', configured: ia3() },
  { name: 'ia3 of feed-forward modules', family: 'scales', configured: ia3({ targetModules: ['query', 'ffn.in', 'ffn.out'], feedforwardModules: ['ffn.in'] }) },
  { name: 'lora', family: 'lora', configured: lora({ r: 4 }) },
  { name: 'lora with dropout, of embeddings, with all biases', family: 'lora', configured: lora({ r: 2, targetModules: ['embeddings', 'query'], loraDropout: 0.2, bias: 'all' }) },
  { name: 'lora of uneven ranks, scaled by their roots', family: 'lora', configured: lora({ r: 4, useRslora: true, rankPattern: { query: 2 }, alphaPattern: { 'ffn.in': 3 } }) },
  { name: 'lora from a part of the weight', family: 'lora', configured: lora({ r: 2, initLoraWeights: 'pissa' }) },
  { name: 'lora+ with biases of its own', family: 'lora', configured: lora({ r: 2, loraplusLrRatio: 4, loraBias: true }) },
  { name: 'lora from the activations', family: 'lora', configured: lora({ r: 2, initLoraWeights: 'eva' }) },
  { name: 'lora from the gradients', family: 'lora', configured: lora({ r: 2, initLoraWeights: 'lora_ga' }) },
  { name: 'lora-fa', family: 'lora', configured: lora({ r: 2, loraFa: true }) },
  { name: 'lora cut to a budget', family: 'lora', configured: truncatedLora({ r: 4, budget: 400 }) },
  { name: 'dora', family: 'dora', configured: lora({ r: 2, useDora: true, loraDropout: 0.2 }) },
  { name: 'dora from a part of the weight', family: 'dora', configured: lora({ r: 2, useDora: true, initLoraWeights: 'pissa' }) },
  { name: 'adalora', family: 'adalora', configured: adalora({ initR: 4, targetR: 2, tinit: 1, tfinal: 1 }) },
  { name: 'adalora by magnitude, regularised as PEFT does', family: 'adalora', configured: adalora({ initR: 4, targetR: 2, tinit: 1, tfinal: 1, importance: 'magnitude', orthRegularizer: 'unsquared-mean' }) },
  { name: 'adalora of doublets, as released', family: 'adalora', configured: adalora({ parametrization: 'lora', initR: 4, targetR: 2, allocator: 'released', loraDropout: 0.2 }) },
  { name: 'adalora without its masked triplets', family: 'adalora', configured: adalora({ initR: 4, targetR: 1, tinit: 1, tfinal: 3, orthRegWeight: 0.1, compact: true }) },
  { name: 'adalora without its masked doublets', family: 'adalora', configured: adalora({ parametrization: 'lora', initR: 4, targetR: 1, tfinal: 3, compact: true }) },
  { name: 'sora', family: 'sora', configured: sora({ r: 4, sparseLambda: 2 }) },
  { name: 'sora with a budget', family: 'sora', configured: sora({ r: 4, budget: 400 }) },
  { name: 'sora as released', family: 'sora', configured: sora({ r: 4, thresholdMode: 'constant', proximal: 'reference', sparseLambda: 2e-3, l1Weight: 0.1 }) },
  { name: 'sora without its dead ranks', family: 'sora', configured: sora({ r: 4, sparseLambda: 10, compactEvery: 1 }) },
  { name: 'dynamic-dora', family: 'dynamic-dora', configured: dynamicDora({ r: 3, endRatio: 0.75, loraDropout: 0.2, targetModules: ['in'] }) },
  { name: 'ela-lora', family: 'ela-lora', configured: elaLora({ r: 3, startRatio: 0.2, rankUpdateRatio: 0.4, loraDropout: 0.2, targetModules: ['in'] }) },
  { name: 'l1ra', family: 'l1ra', configured: l1ra({ r: 4, etaC: 0.1, l1raLambda: 0.5, rankUpdateRatio: 1, loraDropout: 0.2, targetModules: ['query'] }) },
  { name: 'alora', family: 'alora', configured: alora({ r: 2, rounds: 0, loraDropout: 0.2, targetModules: ['query'] }) },
  { name: 'bayes-lora with a budget', family: 'bayes-lora', configured: bayesLora({ r: 2, budget: 60, klScale: 1e-3, targetModules: ['query'] }) },
  { name: 'gora', family: 'gora', configured: gora({ r: 2, targetModules: ['query'] }) },
  { name: 'ln-tuning', family: 'whole modules', configured: lnTuning() },
  { name: 'loha', family: 'loha', configured: loha({ r: 2, rankDropout: 0.2, moduleDropout: 0.2 }) },
  { name: 'lokr', family: 'lokr', configured: lokr({ r: 1, decomposeBoth: true, rankDropout: 0.2, rankDropoutScale: true, moduleDropout: 0.2 }) },
  { name: 'lokr of whole factors', family: 'lokr', configured: lokr({ initWeights: 'lycoris', rankDropout: 0.2 }) },
  { name: 'oft', family: 'oft', configured: oft({ oftBlockSize: 4, coft: true, eps: 0.1, targetModules: ['query', 'ffn.in', 'embeddings'] }) },
  { name: 'oft by the transform', family: 'oft', configured: oft({ r: 2, blockShare: true, useCayleyNeumann: false }) },
  { name: 'vera', family: 'vera', configured: vera({ r: 6, veraDropout: 0.2 }) },
];

/** Every method that a package of the workspace offers; one without a line above has its default options. */
export const parityMethods: readonly ParityMethod[] = [...known, ...(await withoutLine())];

async function withoutLine(): Promise<ParityMethod[]> {
  const names = new Set(known.map(({ configured }) => configured.method.name));
  const others = (await availableMethods()).filter(({ name }) => !names.has(name));
  return Promise.all(
    others.map(async ({ name }) => {
      const { method } = await resolveMethod(name);
      return { name, family: name, configured: { method, config: method.parseConfig({}) } };
    }),
  );
}

/** The first of each family. */
export const oneOfEachFamily: readonly ParityMethod[] = parityMethods.filter(
  ({ family }, index) => parityMethods.findIndex((other) => other.family === family) === index,
);
