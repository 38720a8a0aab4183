import { activeAdapter, attach } from '@peftjs/core';
import { toyModel } from '@peftjs/core/testing';
import { alora } from '@peftjs/alora';
import { expect, it } from 'vitest';

const model = toyModel();

it('is attached as the README shows', () => {
  // #region attach
  const peft = attach(model, alora({ r: 8, targetModules: 'all-linear' }));
  // #endregion attach
  expect(activeAdapter(peft).method.name).toBe('alora');
});
