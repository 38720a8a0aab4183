// Code blocks of the README of onnx, and of the page on ONNX graphs.
import { mkdir, writeFile } from 'node:fs/promises';
import { attach, mergeAndUnload } from '@peftjs/core';
import { lora } from '@peftjs/lora';
import { fromPretrained } from '@peftjs/models';
import { onnxFormats } from '@peftjs/onnx/formats';
import { fromOnnx, saveOnnxGraph, tensorOf, type Operator, type Value } from '@peftjs/onnx';
import * as tf from '@tensorflow/tfjs-core';
import { expect, it } from 'vitest';
import { fixture } from '../../tests/models/onnx.js';
import { heard, useFolder } from './surroundings.js';

useFolder();

it('onnx adapts a graph and writes it', async () => {
  await mkdir('model/onnx', { recursive: true });
  await mkdir('tuned/onnx', { recursive: true });
  await writeFile('model/onnx/model.onnx', fixture('distilbert-features.onnx'));
  const log = heard('log');
  // #region onnx
  const model = await fromOnnx('model/onnx/model.onnx', { labels: ['bad', 'good'] }); // a new head on its hidden states
  console.log(model.sites.map(({ path }) => path)); // the modules that a method may adapt
  const peft = attach(model, lora({ r: 8 }));
  // train(peft, ..) of @peftjs/core
  await saveOnnxGraph(mergeAndUnload(peft), 'tuned/onnx/model.onnx');
  // #endregion onnx
  expect(log.mock.calls[0]?.[0]).toContain('transformer.layer.0.attention.q_lin');
  expect(await fromOnnx('tuned')).toMatchObject({ head: ['classifier'], outputs: 2 });
});

it('a folder is opened by fromPretrained', async () => {
  // #region formats
  const loaded = await fromPretrained('model', { formats: onnxFormats() });
  // #endregion formats
  expect(loaded.graph).toMatchObject({ file: 'onnx/model.onnx' });
});

it('an operator of your own', async () => {
  await writeFile('text.onnx', fixture('tiny.onnx'));
  // #region operators
  const quickGelu: Operator = ([x]) => {
    const value = tensorOf(x as Value);
    return tf.mul(value, tf.sigmoid(tf.mul(value, 1.702)));
  };
  const clip = await fromOnnx('text.onnx', { operators: { 'com.microsoft:QuickGelu': quickGelu } });
  // #endregion operators
  expect(clip.name).toBe('text.onnx');
});
