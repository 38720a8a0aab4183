import { activeAdapter, attach } from '@peftjs/core';
import { toyModel } from '@peftjs/core/testing';
import { dynamicDora } from '@peftjs/dynamic-dora';
import { expect, it } from 'vitest';

const model = toyModel();

it('is attached as the README shows', () => {
  // #region attach
  const peft = attach(model, dynamicDora({ r: 12, targetR: 8, targetModules: 'all-linear' }));
  // #endregion attach
  expect(activeAdapter(peft).method.name).toBe('dynamic-dora');
});
