import { expect, it } from 'vitest';
import { mergeAndUnload } from '../../adapter/merge.js';
import { withAdapter } from '../../adapter/peft-model.js';
import type { TargetConfig } from '../../adapter/targets.js';
import { UnsupportedError } from '../../errors.js';
import { expectApart, expectClose, outputsOf, trained, type Suite } from './suite.js';

/** An adapter that is a change of weights becomes part of them; another one says that it is not. */
export function testMerging<C extends TargetConfig>(suite: Suite<C>): void {
  const { method } = suite;
  if (!method.capabilities.mergeable) {
    it('refuses to be merged, as it is more than a change of weights', async () => {
      const peft = await trained(suite);
      expect(() => mergeAndUnload(peft)).toThrow(UnsupportedError);
    });
    return;
  }
  it('gives the same output merged', async () => {
    const peft = await trained(suite);
    const [merged, adapted] = [await outputsOf(mergeAndUnload(peft), suite), await outputsOf(peft, suite)];
    expectClose(merged, adapted);
    if (Object.keys(peft.adapter.layers).length === 0) return; // nothing but a head
    expectApart(merged, await outputsOf(withAdapter(peft, { layers: {} }), suite));
  });
}
