import {
  activeAdapter,
  activeRanks,
  attach,
  loadPretrained,
  memoryStorage,
  onWarning,
  savePretrained,
  withAdapter,
  type PeftModel,
} from '@peftjs/core';
import { createRng, tensorAt, type HostTensors } from '@peftjs/core/method';
import { storedParameters, withResized } from '@peftjs/core/model';
import { normalValues } from '@peftjs/core/linalg';
import { controllerOf, relativeDistance, testMethod, toyModel, toyOutputs, trainToy } from '@peftjs/conformance';
import { lora, truncatedLora, type TruncatedLoraConfig } from '@peftjs/lora';
import { describe, expect, it } from 'vitest';

testMethod(truncatedLora, {
  configs: {
    default: {},
    cut: { r: 4, budget: 400, loraAlpha: 16 },
    uneven: { r: 3, rankPattern: { value: 2 }, alphaPattern: { 'ffn.in': 4 }, loraDropout: 0.2, budget: 300 },
  },
  rewritten: ['r', 'loraAlpha', 'loraDropout', 'budget'],
  invalid: [
    { options: { r: 0 }, field: 'r' },
    { options: { loraAlpha: 0 }, field: 'loraAlpha' },
    { options: { loraDropout: 1 }, field: 'loraDropout' },
    { options: { rankPattern: { value: 0 } }, field: 'rankPattern.value' },
    { options: { budget: -1 }, field: 'budget' },
  ],
});

const budget = 400;
const attached = (options: Partial<TruncatedLoraConfig> = {}): PeftModel<TruncatedLoraConfig> =>
  attach(toyModel(), truncatedLora({ r: 4, loraAlpha: 16, budget, ...options }), { seed: 1 });

describe('the cut', () => {
  it('happens once, before the final phase, and stores the budget within 1 %', async () => {
    const stored: number[] = [];
    const peft = attached();
    // 32 steps, 9 of them final.
    const { last } = await trainToy(peft, { epochs: 8, onStep: ({ storedParameters: count }) => stored.push(count) });
    const full = stored[0] ?? NaN;
    expect(stored.slice(0, 22)).toEqual(Array.from({ length: 22 }, () => full));
    const left = stored[22] ?? NaN;
    expect(stored.slice(22)).toEqual(Array.from({ length: 10 }, () => left));
    expect(left).toBeLessThanOrEqual(budget);
    expect(left).toBeGreaterThanOrEqual(0.99 * budget);
    expect(last.storedParameters).toBe(left);
    expect(new Set(Object.values(last.ranks)).size).toBeGreaterThan(1);
  });

  it('keeps the outputs of dW without its smallest singular values, and those of the LoRA in its file', async () => {
    const peft = attached();
    const { layers, config, values: initial } = activeAdapter(peft);
    const values: HostTensors = { ...initial };
    for (const path of Object.keys(layers)) {
      const { shape } = tensorAt(initial, `${path}.loraB`);
      values[`${path}.loraB`] = normalValues(createRng(5).fork(path), shape, 0.3);
    }
    const controller = controllerOf(truncatedLora, layers, config, { totalSteps: 3, warmupSteps: 0, finalSteps: 2 });
    const { resized = {} } = controller.afterStep(1, values) ?? {};
    const cut = { ...values };
    for (const [path, { carry }] of Object.entries(resized)) {
      for (const name of ['loraA', 'loraB']) {
        cut[`${path}.${name}`] = carry(name, tensorAt(values, `${path}.${name}`), 'value');
      }
    }
    const after = withAdapter(peft, { layers: withResized(layers, resized), values: cut });
    expect(storedParameters(activeAdapter(after).layers, cut)).toBeLessThanOrEqual(budget);
    // Each module's change equals the conversion to as many ranks, in double precision.
    const ranks = activeRanks(activeAdapter(after).layers, cut);
    expect(Math.min(...Object.values(ranks))).toBeLessThan(4);
    const storage = memoryStorage();
    await savePretrained(after, 'cut', { storage });
    const read = await loadPretrained(toyModel(), 'cut', { storage, methods: [lora] });
    expect(relativeDistance(await toyOutputs(after), await toyOutputs(read))).toBeLessThan(1e-5);
    expect(activeRanks(activeAdapter(read).layers, activeAdapter(read).values)).toEqual(
      Object.fromEntries(Object.entries(ranks).filter(([, rank]) => rank > 0)),
    );
  });

  it('does not happen without a budget: the run equals that of LoRA', async () => {
    const plain = attach(toyModel(), lora({ r: 4, loraAlpha: 16 }), { seed: 1 });
    await trainToy(plain, { epochs: 2 });
    const peft = attached({ budget: null });
    await trainToy(peft, { epochs: 2 });
    expect(activeAdapter(peft).values).toEqual(activeAdapter(plain).values);
  });

  it('is rejected if impossible, and reported as missed if afterStep is not called', () => {
    const { layers } = activeAdapter(attached());
    const started = (options: Partial<TruncatedLoraConfig>, totalSteps = 10) =>
      controllerOf(truncatedLora, layers, { r: 4, ...options }, { totalSteps, warmupSteps: 0, finalSteps: 3 });
    const refused: unknown = expect.objectContaining({ code: 'PEFT_CONFIG', path: 'budget' });
    expect(() => started({ budget: 15 })).toThrow(refused);
    expect(() => started({ budget }, 3)).toThrow(refused);
    const controller = started({ budget });
    controller.scalars(7, {});
    expect(() => controller.scalars(8, {})).toThrow(expect.objectContaining({ code: 'PEFT_TRAINING' }));
    const warnings: string[] = [];
    const restore = onWarning((message) => warnings.push(message));
    started({ budget: 1e6 });
    restore();
    expect(warnings).toEqual([
      expect.stringMatching(/^budget is 1000000; these modules store only \d+ parameters, so nothing is pruned$/),
    ]);
  });
});
