'use strict';

const { argumentsFor, check, program, run } = require('./command');

/**
 * Before the training: the entry is right and the command line is there, or the pipeline ends here
 * and not after hours.
 */
async function initialize(options) {
  check(options);
  await run([...program(options), '--version'], { quiet: true });
}

/** After the training: the model folder becomes a verified bundle in `options.target`. */
async function build(modelDir, options) {
  check(options);
  await run([...program(options), ...argumentsFor(modelDir, options)]);
}

module.exports = { initialize, build };
