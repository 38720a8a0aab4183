import { expect, it } from 'vitest';
import { moduleOf } from './inspect.js';

const own = ['lora_A.weight', 'lora_embedding_A', 'lora_magnitude_vector', 'lora_E', 'gate', 'start_B.weight'];
const others = ['hada_w1_a', 'lokr_w2', 'oft_R.weight', 'vera_lambda_b', 'ia3_l', 'adapter_down.bias'];
const kept = ['weight', 'bias', 'ln_tuning_layers.weight', 'base_layer.bias', 'token_adapter.trainable_tokens_delta'];

it.each([...own, ...others, ...kept])('a module has the tensor %s', (tensor) => {
  for (const path of ['bert.layer.0.attention.self.query', 'model.layers.0.mlp.up_proj', 'token_type_embeddings']) {
    expect(moduleOf(`base_model.model.${path}.${tensor}`)).toBe(path);
  }
});

it('a tensor that all modules share belongs to none', () => {
  expect(moduleOf('base_model.vera_A')).toBe('vera_A');
});
