/**
 * The version of the numbers. Every change that alters a result increments it, because package versions do not show
 * that. Results and checkpoints record it; those of another version are neither resumed nor pooled. Files without it
 * count as 0.
 */
export const NUMERICS = 7;
