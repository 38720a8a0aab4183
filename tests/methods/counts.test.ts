import { adalora } from '@peftjs/adalora';
import { head } from '@peftjs/baselines';
import { lora } from '@peftjs/lora';
import { sora } from '@peftjs/sora';
import { describe, expect, it } from 'vitest';
import { countOn } from '../../packages/baselines/test/deberta-v3-base.js';

/** Query, key, value, attention output and both feed-forward modules of 12 layers. */
const targetModules = 'all-linear';

describe('parameters on the 72 linear modules of DeBERTaV3-base, computed from shapes', () => {
  it.each([
    [1, 165_888, '0.166'],
    [2, 331_776, '0.332'],
    [4, 663_552, '0.664'],
    [8, 1_327_104, '1.33'],
  ])('of LoRA of rank %i are %i, printed as %s million', (r, exact, printed) => {
    const count = countOn(lora({ r, targetModules }));
    expect([count.trainable, count.stored]).toEqual([exact, exact]);
    expect((exact / 1e6).toFixed(printed.length - 2)).toBe(printed);
  });

  it('of SoRA are those of LoRA of the same rank, plus a gate for each of 576 ranks during training', () => {
    const count = countOn(sora({ r: 8, targetModules }));
    expect([count.trainable, count.stored]).toEqual([1_327_104 + 576, 1_327_104]);
  });

  it('of AdaLoRA are those of its initial rank during training, including singular values', () => {
    const count = countOn(adalora({ initR: 12, targetR: 8, targetModules }));
    expect(count.trainable).toBe(12 * (165_888 + 72));
  });

  it('never include those of the model itself', () => {
    expect(countOn(lora({ targetModules })).base).toBe(countOn(head()).base);
  });
});
