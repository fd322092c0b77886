const ms = require("ms");

for (const duration of process.argv.slice(2)) {
  console.log(`${duration} = ${ms(duration)} ms`);
}
