import { elementwise } from './elementwise.js';
import type { OperatorTable } from './operator.js';
import { own, OWN_DOMAIN } from './own.js';
import { products } from './products.js';
import { reductions } from './reductions.js';
import { shape } from './shape.js';

/** ONNX's operators, by name. */
export const operators: OperatorTable = { ...elementwise, ...reductions, ...shape, ...products };

/** The operators of each domain; a user's own come first. */
export const domains: Readonly<Record<string, OperatorTable>> = { '': operators, [OWN_DOMAIN]: own };
